"""Batches, optimiser, loop, checkpoints, scoring and tracking."""
