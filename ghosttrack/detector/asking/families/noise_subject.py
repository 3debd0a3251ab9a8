"""Disturb the residual stream at the subject: what is known well survives."""

from ghosttrack.detector.asking.family import N_NOISES, disturbance, noises

FAMILY = disturbance("noise_subject", 60, N_NOISES, "noise at the subject", noises, at_subject=True)
