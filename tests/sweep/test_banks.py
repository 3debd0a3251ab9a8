from pathlib import Path

import pytest

from ghosttrack.evaluation.result import Interval, Pair
from ghosttrack.evaluation.roster import DECISIVE_NULL, GAIN
from sweep.banks import over_banks
from sweep.collect import main
from tests.report.materials import evaluation
from tests.support.settings import composed
from tests.sweep.outputs import bank, detected, hook, judged


def pair(names: tuple[str, str], delta: float, half: float = 0.01) -> Pair:
    return Pair(*names, "all", delta, Interval(delta - half, delta + half))


def test_banks_add_their_variance_to_that_of_the_answers():
    found = over_banks([[pair(GAIN, one)] for one in (0.01, 0.02, 0.03)])
    assert found.pair.delta == pytest.approx(0.02)
    assert found.sd == pytest.approx(0.01)
    # By hand: t = 4.3027 at 2 degrees of freedom, 4.3027 * .01 / sqrt(3) = .02484, beside .01.
    assert found.pair.ci == pytest.approx((0.02 - 0.02678, 0.02 + 0.02678), abs=1e-5)


def test_banks_that_agree_leave_the_interval_of_one():
    found = over_banks([[pair(GAIN, 0.01), pair(GAIN, 0.03)], [pair(GAIN, 0.02)]])
    assert found.sd == pytest.approx(0)
    assert found.pair.ci == pytest.approx((0.01, 0.03))


def test_collect_states_the_claim_over_banks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "outputs" / "tiny"
    for number, gain in enumerate((0.015, 0.02, 0.06)):
        made = bank(root, 64, 8, [hook(0, fvu=0.1 + number / 100)])
        for seed in (0, 1):
            pairs = pair(GAIN, gain + 0.002 * seed), pair(DECISIVE_NULL, 0.03)
            found = judged(root, evaluation(paired=pairs), seed=10 * number + seed)
            overrides = [f"sae.seed={number}", f"evaluation.seed={seed}", "logger=csv"]
            detected(root / "sweeps" / "seeds" / f"{2 * number + seed}", overrides, made, found)
    main([str(root / "sweeps" / "seeds")])
    printed = capsys.readouterr().out
    # Every single bank would say that tracks add something; over banks they are not shown to.
    assert "tiny, 3 banks: Tracking is not shown to help: tracks add +0.033 [-0.0" in printed
    assert "real links score +0.030 [+0.020, +0.040] against shuffled ones" in printed
    rows = (root / "sweeps" / "seeds" / "banks.csv").read_text().splitlines()
    assert rows[1].startswith(f"tiny,logger=csv,{GAIN[0]},{GAIN[1]},3,0.03")


def test_runs_of_one_bank_say_nothing_of_banks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "outputs" / "tiny"
    made = bank(root, 64, 8, [hook(0)])
    for seed in (0, 1):
        found = judged(root, evaluation(paired=(pair(GAIN, 0.02),)), seed=seed)
        detected(root / "sweeps" / "s" / str(seed), [f"evaluation.seed={seed}"], made, found)
    main([str(root / "sweeps" / "s")])
    assert "banks" not in capsys.readouterr().out


def test_the_sweep_over_banks_judges_what_the_claim_rests_on():
    assert {*GAIN, *DECISIVE_NULL} <= set(composed("detect", "sweep=seeds").evaluation.compare)
