"""The loop of decoding, and what keeps a drafter from hurting it."""
