"""Training: small drafters for a target, from what the target says."""

ASKING, TRAINING, MEASURING = "asking the target", "training", "measuring"
"""Stages of a training that are told; during `TRAINING`, a request to stop is answered with a checkpoint."""
