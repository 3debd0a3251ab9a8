from pathlib import Path

import pytest

from ghosttrack.analysis.cases import choose_cases, main
from ghosttrack.report.page import write_page
from tests.report import materials
from tests.sweep.outputs import judged


def case(index: int, label: int, prob: float, risk: float, ghosts: int = 0) -> dict:
    return {"index": index, "label": label, "prob": prob, "risk": risk, "n_ghosts": ghosts}


def test_each_kind_gives_its_extremes_and_none_twice():
    answers = [
        case(0, 1, 0.9, 0.95), case(1, 1, 0.9, 0.1), case(2, 0, 0.3, 0.2), case(3, 0, 0.9, 0.7, 5),
        case(4, 1, 0.9, 0.9), case(5, 1, 0.9, 0.2), case(6, 1, 0.2, 0.5, 9),
    ]  # fmt: skip
    chosen = [(kind.split(",")[0], one["index"]) for kind, one in choose_cases(answers)]
    assert chosen == [
        *(("sure", 0), ("sure", 4), ("sure", 1), ("sure", 5)),
        *(("in doubt", 2), ("right", 3), ("most ghosts", 6)),
    ]


def test_cases_are_written_with_their_tracks(tmp_path: Path):
    evaluation = judged(tmp_path / "tiny")
    material = materials.material(answers=materials.answers(texts=("a|b",) * materials.N))
    write_page(evaluation / "report.html", material, [], lambda ids: f"t{ids[0]}")
    main([str(evaluation), "--to", str(tmp_path / "cases")])
    text = (tmp_path / "cases" / "cases.md").read_text()
    assert "right, and suspected" in text
    assert "Risks: by everything." in text
    assert r"a\|b" in text
    for picture in (tmp_path / "cases").glob("*.svg"):
        assert f"({picture.name})" in text


def test_a_report_of_another_version_is_one_line(tmp_path: Path):
    evaluation = judged(tmp_path / "tiny")
    (evaluation / "report.html").write_text("<p>old</p>")
    with pytest.raises(SystemExit, match="another version"):
        main([str(evaluation), "--to", str(tmp_path / "cases")])
