"""Options of the classifiers that tests try."""

from ghosttrack.detector.learners.classifiers import BOOSTING, FOREST, LINEAR

TABULAR = LINEAR + FOREST + BOOSTING
