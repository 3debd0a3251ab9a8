import math
from pathlib import Path

import pytest

from sweep.shapes import Shape, front, read_shapes, sweet_spot
from sweep.sweet_spot import main
from tests.sweep.outputs import bank, hook, run, trained

PUBLISHED = """d_sae,k,explained_variance,dead_frac
512,150,.948,.041
512,100,.941,.260
384,75,.933,.365
256,75,.927,.266
256,50,.914,.438
192,40,.906,.396
256,30,.885,.590
192,20,.833,.766
"""


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_the_published_grid_gives_its_sweet_spot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main([str(table(tmp_path / "grid.csv", PUBLISHED))])
    assert last_line(capsys) == "d_sae=512 k=150"
    assert (tmp_path / "sweet_spot.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        pytest.param([(64, 8, 0.9, 0.51), (64, 4, 0.7, 0.5)], (64, 4), id="both limits hold"),
        pytest.param([(64, 8, 0.9, 0.4), (32, 8, 0.9, 0.1)], (32, 8), id="then the fewest dead"),
        pytest.param([(64, 8, 0.8, 0.0), (32, 8, 0.9, 0.5)], (32, 8), id="variance comes first"),
    ],
)
def test_the_rule(shapes: list[tuple[int, int, float, float]], wanted: tuple[int, int]):
    best = sweet_spot([Shape(*one) for one in shapes])
    assert (best.d_sae, best.k) == wanted


def test_where_nothing_passes_the_nearest_is_named(tmp_path: Path):
    path = table(tmp_path / "grid.csv", "k,d_sae,dead_frac,explained_variance\n8,64,.9,.95\n")
    with pytest.raises(SystemExit, match=r"no sweet spot: none of 1 .* 0\.950.* at d_sae=64 k=8"):
        main([str(path)])


def test_the_front_holds_what_nothing_beats():
    sparse, strong = Shape(64, 4, 0.8, 0.2), Shape(64, 8, 0.9, 0.2)
    beaten = Shape(32, 8, 0.85, 0.2)
    assert front([beaten, sparse, strong]) == [sparse, strong]
    assert front([strong, strong._replace(d_sae=128)]) == [strong, strong._replace(d_sae=128)]


def test_a_shape_that_could_not_be_measured_is_not_on_the_front():
    good, bad = Shape(64, 4, 0.8, 0.2), Shape(64, 8, math.nan, 0.2)
    assert front([bad, good, good._replace(d_sae=32, dead_frac=math.nan)]) == [good]


def test_rows_of_one_shape_are_averaged(tmp_path: Path):
    text = "d_sae,k,explained_variance,dead_frac\n64,8,.5,.1\n64,4,.8,0\n64,8,.75,.3\n"
    averaged, alone = read_shapes(table(tmp_path / "grid.csv", text))
    assert averaged == pytest.approx((64, 8, 0.625, 0.2, 2))
    assert alone == (64, 4, 0.8, 0.0, 1)


def test_a_sweep_is_read_with_seeds_averaged_and_failed_jobs_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "tiny"
    sweep = root / "sweeps" / "grid"
    for number, fvu in enumerate((0.1, 0.3)):
        trained(sweep / str(number), [], bank(root, 64, 8, [hook(0, fvu=fvu)]))
    trained(sweep / "2", [], bank(root, 64, 4, [hook(0, fvu=0.21)]))
    run(sweep / "3", "train", status=1)
    main([str(sweep)])
    printed = capsys.readouterr().out
    assert printed.endswith("d_sae=64 k=8\n")  # 0.8 on average, before 0.79
    (line,) = [one for one in printed.splitlines() if "sweet spot" in one and "<-" in one]
    assert line.split()[:5] == ["64", "8", "0.800", "0.250", "2"]


def test_a_table_of_collect_can_be_read(tmp_path: Path):
    path = table(
        tmp_path / "runs.csv",
        "run,d_sae,k,explained_variance,dead_frac\na,64,8,.9,.1\nfailed,,,,\nb,64,4,.8,0\n",
    )
    assert read_shapes(path) == [Shape(64, 8, 0.9, 0.1), Shape(64, 4, 0.8, 0.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("d_sae,k\n1,2\n", "lacks the column explained_variance, dead_frac"),
        (PUBLISHED + "64,x,.5,.5\n", "line 10: k is no number: 'x'"),
        (PUBLISHED + "0,4,.5,.5\n", "line 10: d_sae cannot be 0"),
        (PUBLISHED + "64,4,nan,.5\n", "line 10: explained_variance cannot be nan"),
        (PUBLISHED + "64,4,-inf,.5\n", "line 10: explained_variance cannot be -inf"),
        (PUBLISHED + "64,4,1.01,.5\n", r"line 10: explained_variance cannot be 1\.01"),
        (PUBLISHED + "64,4,.5,-.1\n", r"line 10: dead_frac cannot be -\.1"),
        (PUBLISHED + "64,4,.5,41\n", "line 10: dead_frac cannot be 41"),
        ("d_sae,k,explained_variance,dead_frac\n", "has no row of numbers"),
        ("", "lacks the column d_sae"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str, said: str):
    with pytest.raises(SystemExit, match=said):
        main([str(table(tmp_path / "grid.csv", text))])
