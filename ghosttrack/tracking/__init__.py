"""Observations in, tracks out: pure NumPy, no torch, no Hydra."""
