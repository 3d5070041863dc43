"""Where drafts come from: indexes over token ids, and the levels that feed them."""
