"""Disturb the residual stream at every position: what is known well survives."""

from ghosttrack.detector.asking.family import N_NOISES, disturbance, noises

FAMILY = disturbance("noise_all", 70, N_NOISES, "noise at every position", noises)
