"""Options of the classifiers that tests try, and detectors that are fitted with them."""

import numpy as np

from ghosttrack.detector.learners.calibration import Calibration
from ghosttrack.detector.learners.classifiers import BOOSTING, FOREST, LINEAR, Option
from ghosttrack.detector.learners.fitted import FittedDetector, fit_scorer, quantiles

TABULAR = LINEAR + FOREST + BOOSTING


def fitted_detector(
    option: Option,
    columns: tuple[str, ...],
    values: np.ndarray,
    labels: np.ndarray,
    **changed: object,
) -> FittedDetector:
    """A detector whose probability is the logistic function of its score."""
    fields: dict[str, object] = {
        "name": "a",
        "columns": columns,
        "scorer": fit_scorer(option, values, labels, 0),
        "option": option.label,
        "calibration": Calibration(0.0, 1.0, 1.0, 0.0, None),
        "threshold": 0.5,
        "prevalence": 0.5,
        "has_holes": np.isnan(values).any(axis=0),
        "quantiles": quantiles(values, labels),
    }
    return FittedDetector(**(fields | changed))  # pyright: ignore[reportArgumentType]
