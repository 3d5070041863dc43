"""Training: small drafters for a target, from what the target says."""

TRAINING, MEASURING = "training", "measuring"
"""Stages of a training that are told; during the first, a request to stop is answered with a checkpoint."""
