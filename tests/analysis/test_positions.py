"""How odd positions differ from even ones, counted by hand."""

import csv
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.analysis.positions import _limit, compare, grid_of, main, positions_sheet
from ghosttrack.analysis.significance import least_p, shift
from tests.sweep.outputs import bank, hook, record, trained


def odd(n: int) -> np.ndarray:
    return np.arange(n) % 2 == 1


def test_p_is_the_share_of_ways_that_part_the_values_as_far():
    # of the 70 ways to call 4 of 8 positions odd only this one and its mirror image part 4 from 4
    values = np.array([0.0, 10, 1, 11, 2, 12, 3, 13])
    found = shift(values, odd(8), 0)
    assert found == pytest.approx((10.0, 2 / 70, 2 / 70))
    # 3 and 4 against 0, 1, 2: of 10 pairs only 0 and 1 lie as far from the rest
    found = shift(np.array([0.0, 3, 1, 4, 2]), odd(5), 0)
    assert found == pytest.approx((2.5, 2 / 10, 1 / 10))


def test_p_agrees_with_a_count_of_every_way():
    values = np.random.default_rng(0).normal(size=9)
    marked = odd(9)

    def apart(chosen: list[int]) -> float:
        rest = [i for i in range(9) if i not in chosen]
        return abs(values[chosen].mean() - values[rest].mean())

    ways = [apart(list(chosen)) for chosen in combinations(range(9), 4)]
    wanted = np.mean(np.array(ways) >= apart(np.flatnonzero(marked).tolist()) - 1e-12)
    assert shift(values, marked, 0).p == wanted


def test_random_ways_stand_in_where_there_are_too_many():
    n = 40
    generator = np.random.default_rng(1)
    far = shift(odd(n) + generator.normal(size=n) / 10, odd(n), 0)
    assert far.p == far.smallest == 1 / 10_000
    near = [shift(generator.normal(size=n), odd(n), seed).p for seed in range(20)]
    assert 0.2 < np.mean(near) < 0.8


@pytest.mark.parametrize("n", [3, 8, 24])
def test_equal_positions_have_p_1(n: int):
    assert shift(np.full(n, 0.1) * 3, odd(n), 0)[:2] == pytest.approx((0.0, 1.0))


def test_the_smallest_p_is_reached_by_the_farthest_values_and_by_none_smaller():
    assert least_p(3, 1) == 1 / 3
    assert least_p(8, 4) == 2 / 70
    assert least_p(5, 2) == 1 / 10
    for n in (3, 5, 8):
        assert shift(odd(n).astype(float), odd(n), 0).p == pytest.approx(least_p(n, n // 2))


def test_layers_without_a_position_are_left_out():
    whole = [hook(layer, pos=p, fvu=0.1 * (p + layer)) for layer in (2, 10) for p in range(3)]
    grid = grid_of(record(*whole, hook(11, pos=1), hook(4)), "fvu")
    assert grid is not None
    assert grid.layers == [2, 10]
    np.testing.assert_allclose(grid.values, [[0.2, 0.3, 0.4], [1.0, 1.1, 1.2]])


def test_the_layers_level_does_not_hide_what_differs_within_each():
    hooks = [hook(i, pos=p, fvu=i + 0.01 * (p % 2)) for i in (1, 50) for p in range(8)]
    (found,) = [one for one in compare([record(*hooks)], 0) if one.metric == "fvu"]
    assert found.shift == pytest.approx((0.01, 2 / 70, 2 / 70))


def results(n: int, dead: Callable[[int], float]) -> tuple[dict[str, float], dict[str, str], str]:
    """q and verdict of each metric where mse and fvu of odd positions are higher; the footer."""
    hooks = [hook(0, pos=p, fvu=0.1 + 0.1 * (p % 2), dead_frac=dead(p)) for p in range(n)]
    tests = list(compare([record(*hooks)], 0))
    sheet = positions_sheet(tests)
    columns = (sheet[name].tolist() for name in ("metric", "q", "verdict"))
    rows = list(zip(*columns, strict=True))
    (said,) = {_limit(one, len(tests)) for one in tests}
    return {str(m): float(str(q)) for m, q, _ in rows}, {str(m): str(v) for m, _, v in rows}, said


def test_only_what_varies_is_tested_and_q_counts_all_of_it():
    q, verdict, said = results(8, lambda _: 0.25)
    assert q == pytest.approx({"mse": 2 / 70, "fvu": 2 / 70})
    assert set(verdict.values()) == {"differs"}
    assert "q of a single difference among 2 tests is at least 0.057: only several at once" in said


def test_the_verdict_is_what_the_last_line_says():
    def half(p: int) -> float:  # two high ones on either side, as far apart as can be by chance
        return 0.1 * (p in (0, 1, 2, 3))

    q, verdict, said = results(8, half)
    assert q == pytest.approx({"mse": 2 / 70 * 3 / 2, "fvu": 2 / 70 * 3 / 2, "dead_frac": 1.0})
    assert verdict == {"mse": "differs", "fvu": "differs", "dead_frac": "too few positions"}
    assert "among 3 tests is at least 0.086: only several at once can be shown" in said
    _, verdict, said = results(12, half)
    assert verdict["dead_frac"] == "no difference shown"
    assert "among 3 tests is at least 0.0065: it can be shown at 0.05" in said


@pytest.mark.parametrize(
    ("n", "verdict", "line"),
    [
        (3, "too few positions", "2 tests is at least 0.67: nothing can be shown"),
        (12, "differs", "with 12 positions p is at least 0.0022; q of a single difference"),
    ],
)
def test_what_can_be_shown_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int, verdict: str, line: str
):
    root = tmp_path / "outputs" / "tiny"
    hooks = [hook(i, pos=p, fvu=0.1 + 0.01 * i + 0.1 * (p % 2)) for i in (2, 10) for p in range(n)]
    made, plain = bank(root, 64, 8, hooks), bank(root, 32, 8, [hook(i) for i in range(2)])
    for place, one in enumerate((made, plain)):
        trained(root / "sweeps" / "grid" / str(place), [], one)
    out = tmp_path / "out"
    main([str(root), "--out", str(out)])
    assert line in capsys.readouterr().out
    with (out / "positions.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert rows["fvu"]["verdict"] == verdict
    assert {row["bank"] for row in rows.values()} == {made.name}
    assert float(rows["fvu"]["odd - even"]) == pytest.approx(0.1)
    drawn = (out / f"positions-tiny-{made.name}.svg").read_text()
    for said in ("fvu", "odd", "even", "mean over layers"):
        assert f">{said}<" in drawn


def test_a_bank_without_positions_is_one_line(tmp_path: Path):
    root = tmp_path / "outputs" / "tiny"
    trained(root / "sweeps" / "grid" / "0", [], bank(root, 32, 8, [hook(i) for i in range(2)]))
    with pytest.raises(SystemExit, match=r"no bank there.*layer_<l>_pos_<p>.*layers_x_positions"):
        main([str(root), "--out", str(tmp_path / "out")])
