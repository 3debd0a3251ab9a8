"""What learns from columns: classifiers, calibration, baselines."""
