import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ghosttrack.evaluation.result import Evaluation
from ghosttrack.report.contents import ReportContents
from ghosttrack.report.first import leader
from ghosttrack.report.html import asset
from ghosttrack.report.page import flagged_from, sketch, summarise, write_page
from tests.report import materials

EVIL = "</script><b id=evil>=1+1</b><img src=x onerror='alert(1)'>"


class Page(HTMLParser):
    """Tags with their attributes, and the text of each table row and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text = ""
        self._inside = ""
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True
        elif tag == "div":  # what a row is, below its name
            self._in_cell = False
        elif tag in ("script", "style"):
            self._inside = tag
            (self.scripts if tag == "script" else self.styles).append("")

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = ""
        elif tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "style":
            self.styles[-1] += data
        else:
            self.text += data
            if self._in_cell:
                self.rows[-1][-1] += data

    def row(self, *start: str) -> list[str]:
        found = [cells for cells in self.rows if tuple(cells[: len(start)]) == start]
        assert found, f"no table row begins with {start}"
        return found[0]


def render(folder: Path, material: ReportContents) -> tuple[str, Page]:
    path = folder / "report.html"
    write_page(path, material, [materials.figure(folder)], lambda ids: f"t{ids[0]}")
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return render(tmp_path_factory.mktemp("page"), materials.material())[1]


def test_nothing_is_loaded_from_outside_the_page(page: Page):
    loading = ("src", "href", "action", "data", "poster", "srcset", "background")
    targets = [attrs[name] for _, attrs in page.tags for name in loading if name in attrs]
    assert targets
    within = ("#", "data:image/svg+xml;base64,")
    assert not [target for target in targets if not (target and target.startswith(within))]
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert "url(" not in page.styles[0]
    assert "@import" not in page.styles[0]
    calls = ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "eval(", "new Function")
    assert not [call for script in page.scripts[2:] for call in calls if call in script]
    assert "innerHTML" not in page.scripts[3]


def test_a_page_holds_its_plotting_library_once_with_its_licence(page: Page):
    assert ["Mike Bostock" in script for script in page.scripts] == [False, False, True, False]
    assert "Permission to use, copy, modify" in page.scripts[2]


def test_every_link_of_the_page_has_a_target(page: Page):
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a" and attrs["href"]}
    assert links <= ids


def hostile() -> ReportContents:
    """A text that closes tags, wherever a text of a model, a question or a setting can stand."""
    texts = (EVIL,) * materials.N
    base = materials.material()
    return base._replace(
        answers=materials.answers(
            prompts=texts, texts=texts, categories=texts, tiers=texts, references=((EVIL,),) * 8
        ),
        evaluation=materials.evaluation(
            claim=EVIL, left_out={EVIL: EVIL}, dropped={"output": (EVIL,)}
        ),
        view=base.view._replace(promotes=[EVIL] * 3),
        owners=base.owners._replace(names=(EVIL,) * materials.N),
        facts={"model": EVIL, EVIL: EVIL},
    )


def test_no_text_closes_a_tag_or_opens_one(tmp_path: Path, page: Page):
    text, evil = render(tmp_path, hostile())
    assert "<b id=evil" not in text
    assert "<img src=x" not in text
    assert not [attrs for _, attrs in evil.tags if attrs.get("id") == "evil" or "onerror" in attrs]
    assert [tag for tag, _ in evil.tags].count("script") == 4
    assert EVIL in evil.text
    assert json.loads(evil.scripts[0])["answers"][0]["text"] == EVIL
    assert evil.scripts[2:] == page.scripts[2:]


def test_a_number_that_is_not_defined_is_a_dash(page: Page):
    cells = page.row("everything")
    assert cells[1:4] == ["0.750 [0.650, 0.850]", "0.750 [0.650, 0.850]", "– [–, –]"]
    assert page.row("everything", "output")[2:5] == ["+0.125 [+0.025, +0.225]", "", "– [–, –]"]
    assert page.row("name_tfidf") == ["name_tfidf", "– [–, –]", "not defined"]
    assert "nan" not in page.text.lower().split()
    assert "p>0.8: one label only" in page.text


def test_canaries_are_judged(page: Page):
    assert page.row("length") == ["length", "0.500 [0.440, 0.560]", "no leak above 0.560"]
    song = "sings: the order of the answers tells the wrong ones"
    assert page.row("index") == ["index", "0.610 [0.530, 0.700]", song]
    assert page.row("untrained")[2].startswith("no leak above 0.")


def test_reliability_is_told_at_another_share_of_hallucinated_answers(page: Page):
    assert "10 %, as they are" in page.text
    assert page.row("output", "0.263") == ["output", "0.263", "0.011"]


def test_statistics_are_held_against_their_expected_direction(page: Page):
    # mean_logprob: every wrong answer below every right one, so AUROC 0, and lower was expected;
    # n_births: likewise, but higher was expected.
    area = "0.000 [0.000, 0.100]"
    assert page.row("mean_logprob")[2:7] == ["(-∞, 0]", "↓", "8", area, "holds"]
    assert page.row("n_births")[2:7] == ["[0, ∞)", "↑", "8", area, "fails"]


def test_the_page_shows_what_was_left_out_and_dropped(page: Page):
    assert "exposure_oracle: nobody counted." in page.text
    assert "output: flat: constant" in page.text
    assert (
        "Effective rank, the number of directions in which columns vary: output 1.0." in page.text
    )
    assert page.row("layer 3") == ["layer 3", "0.900", "0.100", "8.0", "0.000", "0.01000"]
    assert page.row("swap") == ["swap", "25.0"]
    assert page.row("layers of a confirmed track", "null:shuffled")[2:] == [
        "2.50 [2.25, 2.75]", "1.50", "+1.00 [+0.75, +1.25]",
    ]  # fmt: skip
    assert page.row("3 to 7") == [
        *("3 to 7", "40", "0.900 [0.800, 1.000]", "0.100 [0.000, 0.200]"),
        *("0.800 [0.600, 0.900]", "0.50", "0.40"),
    ]


def test_bands_of_confidence_count_every_answer_once(page: Page):
    assert page.row("sure: p > 0.8") == ["sure: p > 0.8", "4", "0"]
    assert page.row("fairly sure: 0.5 < p ≤ 0.8")[1:] == ["4", "4"]
    assert page.row("unsure: p ≤ 0.5")[1:] == ["0", "0"]


def test_only_a_world_has_tiers_and_its_limits(tmp_path: Path, page: Page):
    assert "generated world" not in page.text
    world = materials.material(answers=materials.answers(tiers=("head",) * 4 + ("rare",) * 4))
    shown = render(tmp_path, world)[1]
    assert shown.row("head") == ["head", "4", "0.500"]
    assert "generated world" in shown.text


def test_a_page_without_a_model_has_no_empty_section(tmp_path: Path, page: Page):
    unknown = np.full(materials.N, np.nan)
    none = ((),) * materials.N
    bare = materials.material(
        answers=materials.answers(prob=unknown, token_ids=none, logprobs=none),
        evaluation=materials.evaluation(tracking=(), causal=(), paired=()),
        view=None,
        hooks=(),
        limits=("Only so much.",),
    )
    text, shown = render(tmp_path, bare)
    ids = {attrs["id"] for _, attrs in shown.tags if "id" in attrs}
    gone = {"pairs", "tracks", "bank", "viewer-tracks"}
    assert not gone & ids
    assert gone <= {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"] for tag, attrs in shown.tags if tag == "a"} <= {f"#{one}" for one in ids}
    assert "the model was" not in shown.text
    assert "Tracking helps" not in shown.text
    assert "Only so much." in shown.text
    first = materials.unpacked(text)[0]
    assert (first["prob"], first["tokens"], first["tracks"]) == (None, [], [])
    for one in shown.scripts[1:]:
        text = text.replace(one, "")
    assert "NaN" not in text
    assert {tag for tag, _ in shown.tags} >= {"details", "h2"}


def test_the_same_material_gives_the_same_bytes(tmp_path: Path):
    assert render(tmp_path, materials.material())[0] == render(tmp_path, materials.material())[0]


def test_the_risk_is_by_the_detector_that_sees_most():
    def with_scores(*names: str) -> Evaluation:
        return materials.evaluation(scores=dict.fromkeys(names, np.zeros(materials.N)))

    assert leader(with_scores("output", "tracks+output", "everything")) == "everything"
    assert leader(with_scores("output", "tracks+output")) == "tracks+output"
    assert leader(with_scores("output")) == "output"
    chosen = {"recommended": "output"}
    named = replace(with_scores("output", "everything"), recommended=chosen)
    assert leader(named) == "recommended"
    costly = max(materials.evaluation().rows, key=lambda row: row.forwards).detector
    assert leader(with_scores("streaming:1")) == costly


def test_the_threshold_of_flags_is_told_by_fold():
    base = materials.evaluation()
    prob, flagged = np.array([0.3, 0.41, 0.6, 0.9] * 2), np.tile([False, True, True, True], 2)
    prob[5] = 0.47
    folds = np.repeat([0, 1], 4)
    judged = replace(base, scores={"a": prob}, flagged={"a": flagged}, folds=folds)
    assert flagged_from(judged, "a") == "from 41 to 47 % on, by fold"


def test_the_summary_says_how_many():
    assert summarise(materials.evaluation()) == "8 answers about 4 groups, 50 % hallucinated."


def test_a_statistic_that_does_not_vary_has_no_sketch():
    assert sketch(np.ones(8), materials.LABELS) == ""
    assert sketch(np.arange(8.0), materials.LABELS).count("<polygon") == 2


def test_a_page_says_so_where_people_wrote_the_answers(tmp_path: Path):
    given = materials.answers(
        categories=tuple(f"written_{'wrong' if one else 'right'}" for one in materials.LABELS)
    )
    found = materials.evaluation()
    surface = materials.row("control:surface", "all", 0.72)
    rows = (*found.rows, surface, *(materials.row("control:surface", s) for s in found.subsets[1:]))
    material = materials.material(answers=given, evaluation=replace(found, rows=rows))
    write_page(tmp_path / "a.html", material, [], str)
    text = Page((tmp_path / "a.html").read_text()).text
    assert "Others wrote these answers; the model only read them." in text
    assert "control:surface, which understands nothing, comes to AUROC 0.720" in text
    assert "What others wrote" in text
    assert "What the model answered" not in text
    assert "the last token of the question" not in text


def test_every_rule_of_the_style_sheet_stands_once_and_paper_shows_no_list_to_choose_from():
    rules = [line for line in asset("report.css").splitlines() if len(line) > 20]
    assert len(rules) == len(set(rules))
    printed = asset("report.css").split("@media print {")[1]
    assert ".viewer .list, nav, .controls, .table-controls { display: none; }" in printed
