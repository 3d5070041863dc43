"""Drafting from the target's own mind: heads that read its hidden states."""
