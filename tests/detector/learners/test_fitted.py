from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ghosttrack.detector.learners.calibration import Calibration, Steps
from ghosttrack.detector.learners.classifiers import Option
from ghosttrack.detector.learners.fitted import (
    ARRAYS,
    QUANTILES,
    FittedDetector,
    load,
    quantiles,
    save,
)
from ghosttrack.detector.table import Table
from ghosttrack.errors import DataError
from tests.detector.learners.options import TABULAR, fitted_detector
from tests.detector.learners.test_scorers import TRAIN, sample


def fitted(option: Option, **changed: object) -> FittedDetector:
    values, labels = sample()
    values, labels = values[TRAIN], labels[TRAIN]
    return fitted_detector(option, ("t:x", "t:y", "u:z", "u:w"), values, labels, **changed)


@pytest.mark.parametrize("option", TABULAR[1:], ids=lambda option: option.label)
@pytest.mark.parametrize("steps", [None, Steps(np.array([-1.0, 1.0]), np.array([0.1, 0.8]))])
def test_what_is_saved_is_what_is_read(tmp_path: Path, option: Option, steps: Steps | None):
    values, _ = sample()
    calibration = Calibration(0.1, 1.5, 0.9, -0.2, steps)
    one = fitted(option, threshold=0.4, calibration=calibration)
    save(tmp_path, [fitted(TABULAR[0], name="first"), one])
    first, again = load(tmp_path)
    assert (first.name, again.name, again.columns) == ("first", "a", one.columns)
    assert (again.threshold, again.prevalence, again.option) == (0.4, 0.5, option.label)
    np.testing.assert_array_equal(again.prob(values), one.prob(values))
    np.testing.assert_array_equal(again.quantiles, one.quantiles)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize("steps", [None, Steps(np.array([-1.0, 1.0]), np.array([0.0, 1.0]))])
def test_risks_move_to_another_share_of_hallucinated_answers_and_flags_stay(
    tmp_path: Path, steps: Steps | None
):
    values, _ = sample()
    calibration = Calibration(0.1, 1.5, 0.9, -0.2, steps)
    one = fitted(TABULAR[0], threshold=0.4, calibration=calibration, prevalence=0.6)
    moved = one.at(0.1)
    before, after = one.prob(values), moved.prob(values)
    # By Bayes: odds times (.1 / .9) / (.6 / .4) = 2 / 27.
    np.testing.assert_allclose(after / (1 - after), before / (1 - before) * 2 / 27)
    np.testing.assert_array_equal(after >= moved.threshold, before >= one.threshold)
    np.testing.assert_allclose(moved.at(0.6).prob(values), before)
    save(tmp_path, [moved])
    np.testing.assert_array_equal(load(tmp_path)[0].prob(values), after)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scorer.left", lambda held: np.where(held > 0, 0, held)),
        ("scorer.column", lambda held: held + 9),
        ("scorer.cut", lambda held: held[:-1]),
    ],
)
def test_trees_that_would_not_end_or_do_not_fit_are_refused(tmp_path: Path, name: str, change):
    save(tmp_path, [fitted(TABULAR[3])])
    arrays = load_file(tmp_path / ARRAYS)
    arrays[f"0.{name}"] = change(arrays[f"0.{name}"])
    save_file(arrays, tmp_path / ARRAYS)
    with pytest.raises(DataError, match="a file of it is malformed"):
        load(tmp_path)


def test_values_are_looked_up_by_table_and_column():
    one = fitted(TABULAR[0])
    tables = {
        "t": Table(("y", "x"), np.array([[1.0, 2.0], [np.inf, 3.0]])),
        "u": Table(("z",), np.array([[5.0], [6.0]])),
    }
    assert one.tables == ("t", "u")
    nan = np.nan
    np.testing.assert_array_equal(one.values(tables), [[2, 1, 5, nan], [3, nan, 6, nan]])


def test_a_row_lacks_only_what_no_row_of_the_fit_lacked():
    one = fitted(TABULAR[0], has_holes=np.array([False, True, False, True]))
    nan = np.nan
    values = np.array([[1.0, nan, 1.0, nan], [nan, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(one.lacks(values), [False, True, False])


def test_quantiles_are_of_each_label_and_of_what_is_known():
    values = np.array([[0.0, np.nan], [1.0, np.nan], [2.0, np.nan], [9.0, 3.0]])
    found = quantiles(values, np.array([0, 0, 0, 1]))
    middle = QUANTILES.index(0.5)
    np.testing.assert_array_equal(found[:, middle], [[1.0, np.nan], [9.0, 3.0]])
