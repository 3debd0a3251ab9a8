import csv
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ghosttrack.analysis.evaluations import read_evaluation
from ghosttrack.analysis.export import FIGURES, command, main, protocol
from ghosttrack.evaluation.roster import COLORS
from ghosttrack.report.latex import escaped, table
from ghosttrack.report.sheet import flat, sheet_of
from ghosttrack.report.tables import Estimate
from tests.report.materials import LABELS, evaluation
from tests.sweep.outputs import bank, detected, hook, judged


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged(tmp_path_factory.mktemp("export") / "outputs" / "tiny")


@pytest.fixture(scope="module")
def made(found: Path) -> Path:
    """An evaluation whose run is there, beside a later run that found it."""
    root = found.parents[1]
    sae = bank(root, 64, 8, [hook(0)])
    detected(root / "runs" / "detect" / "b", ["experiment=x_y", "prompt='a b'"], sae, found)
    detected(root / "runs" / "detect" / "a", ["later=1"], sae, found)
    return found


def test_an_evaluation_is_read_back_as_it_was(found: Path):
    was, now = evaluation(), read_evaluation(found)
    assert now.labels.tolist() == LABELS.tolist()
    read = now.evaluation
    assert repr(read.rows) == repr(was.rows)  # NaN is not equal to itself
    assert repr(read.paired) == repr(was.paired)
    assert (read.tracking, read.causal, read.claim) == (was.tracking, was.causal, was.claim)
    assert repr(dict(read.canaries_ci)) == repr(dict(was.canaries_ci))
    assert read.dropped == was.dropped
    for name, scores in was.scores.items():
        assert read.scores[name] == pytest.approx(scores, abs=1e-6)


@pytest.fixture(scope="module")
def paper(made: Path) -> Path:
    folder = made.parents[3] / "paper"
    main([str(made), "--to", str(folder)])
    return folder


def test_every_caption_says_what_the_numbers_rest_on(paper: Path):
    texts = [path.read_text() for path in paper.glob("*.tex")]
    captions = [text for text in texts if "caption{" in text]
    assert len(captions) == 4 + len(FIGURES)
    for text in captions:
        typed = r"experiment=x\_y 'prompt='".replace("'", r"\textquotesingle{}")
        assert rf"\texttt{{python detect.py {typed}" in text
        if "SAEs" not in text:
            assert (
                r"n = 8 answers (p\textgreater{}0.5: 8, p\textgreater{}0.8: 8) of 4 groups" in text
            )
            assert "5 grouped folds, seed 0; 2,000 resamples." in text
            drawn = ("{overview", "{auroc}", "{subsets}", "{pairs}", "{tracks}")
            has_intervals = r"\begin{tabular}" in text or any(name in text for name in drawn)
            assert (r"95 \% cluster-bootstrap intervals over groups." in text) == has_intervals


def test_a_caution_about_few_answers_is_said_in_the_captions(made: Path):
    found = read_evaluation(made)
    assert "Caution" not in protocol(found)
    rows = tuple(replace(row, note="caution: 4 of the rarer") for row in found.evaluation.rows)
    found = found._replace(evaluation=replace(found.evaluation, rows=rows))
    assert protocol(found).endswith("2,000 resamples. Caution: 4 of the rarer.")


def test_the_document_shows_files_that_are_there(paper: Path):
    shown = re.findall(r"\\input\{(.*)\}", (paper / "paper.tex").read_text())
    assert len(shown) == 4 + len(FIGURES)
    pictures = [
        name
        for part in shown
        for name in re.findall(r"includegraphics.*\{(\w+)\}", (paper / part).read_text())
    ]
    assert sorted(pictures) == sorted(FIGURES)
    for name in pictures:
        assert (paper / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (paper / f"{name}.svg").is_file()


def test_numbers_of_the_tables_are_those_of_the_evaluation(made: Path, tmp_path: Path):
    main([str(made), "--to", str(tmp_path), "--detectors", "output"])
    with (tmp_path / "detectors.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["detector"], row["AUROC, all"], row["AUROC, p>0.8"]) == ("output", "0.75", "")
    assert float(row["AUROC, all low"]) == pytest.approx(0.65)
    text = (tmp_path / "table_detectors.tex").read_text()
    assert r"output & 0.750 [0.650, 0.850] & 0.750 [0.650, 0.850] & -- [--, --] &" in text
    assert not (tmp_path / "table_paired.tex").exists()


def test_the_document_compiles(paper: Path, tmp_path: Path):
    """Tables, captions and figures, with every character that means something to LaTeX."""
    engine = shutil.which("tectonic") or shutil.which("pdflatex")
    if engine is None:
        pytest.skip("neither tectonic nor pdflatex is installed")
    shutil.copytree(paper, tmp_path, dirs_exist_ok=True)
    evil = table(sheet_of(("name",), [("".join(map(chr, range(32, 127))) + "–≥",)]), "x", "y")
    (tmp_path / "table_canaries.tex").write_text(evil)
    once = ["-interaction=nonstopmode", "-halt-on-error"] if engine.endswith("pdflatex") else []
    done = subprocess.run([engine, *once, "paper.tex"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.long
def test_the_same_evaluation_gives_the_same_files(made: Path, paper: Path, tmp_path: Path):
    main([str(made), "--to", str(tmp_path)])
    one, two = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (paper, tmp_path)
    )
    assert one == two


def test_without_a_run_the_command_is_not_made_up(tmp_path: Path):
    assert "settings not known" in command(judged(tmp_path / "outputs" / "tiny"))


def test_no_text_is_taken_for_latex(tmp_path: Path):
    evil = r"\input{/etc/passwd} $x$ 50% a_b & c^d ~ # {"
    text = table(sheet_of(("name",), [(evil,)]), "x", "y")
    (cell,) = [line for line in text.splitlines() if "passwd" in line]
    assert cell.removesuffix(r" \\") == escaped(evil)
    rest = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]", "", escaped(evil))
    assert not set(rest) & set("\\~^&%$#_{}")


def test_columns_are_as_many_as_their_kinds(paper: Path):
    for path in paper.glob("table_*.tex"):
        text = path.read_text()
        (kinds,) = re.findall(r"begin\{tabular\}\{([lr]+)\}", text)
        lines = [line for line in text.splitlines() if line.endswith(r" \\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(kinds) - 1}


def test_an_evaluation_without_headline_detectors_is_refused(tmp_path: Path):
    rows = tuple(row for row in evaluation().rows if row.detector not in COLORS)
    odd = judged(tmp_path / "tiny", replace(evaluation(), rows=rows))
    with pytest.raises(SystemExit, match="--detectors: no everything; there are null:shuffled"):
        main([str(odd), "--to", str(tmp_path / "paper"), "--detectors", "everything"])


def test_what_is_no_evaluation_is_one_line(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"no manifest\.json"):
        main([str(tmp_path), "--to", str(tmp_path / "paper")])


def test_intervals_keep_their_place_in_a_row_that_has_none():
    cells = flat(sheet_of(("a", "b"), [(Estimate(1.0, 0.5, 1.5), "x"), (None, "y")]))
    assert cells.columns.tolist() == ["a", "a low", "a high", "b"]
    assert cells.to_numpy().tolist() == [[1.0, 0.5, 1.5, "x"], [None, None, None, "y"]]
