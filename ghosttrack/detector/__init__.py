"""From tracks to a score: statistics, interventions, baselines, classifiers, calibration."""
