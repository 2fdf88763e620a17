"""Sampling new pieces from a checkpoint."""
