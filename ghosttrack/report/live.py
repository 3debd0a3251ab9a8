"""Judgements of new answers: in the terminal, as a page and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite, log
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ghosttrack.detector.judgement import Hypothesis, Judge, Judgement, TokenRisk, percent
from ghosttrack.detector.learners.classifiers import STREAMING
from ghosttrack.report.contents import TrackView
from ghosttrack.report.html import D3, SCRIPTS, asset, environment, json_in_html, script
from ghosttrack.report.tables import number, write_csv
from ghosttrack.report.viewer import packed, reasons_of, tracks_of

N_REASONS = 6
"""Of the terminal; the page has more."""
EQUAL = 1e-6
"""Shares no further apart are the same, but for rounding."""
BAR = 10
"""Characters of a full bar."""
RISING = ((0.25, "green"), (0.5, "yellow"), (0.75, "dark_orange"), (1.01, "red"))
"""Risk below which a colour is used."""
TABLE = (
    *("question", "answer", "verdict", "probability", "own_probability"),
    *("detector", "best_rival", "owner", "why", "notes"),
)


class Shown(NamedTuple):
    """What a page shows."""

    judgements: tuple[Judgement, ...]
    view: TrackView | None
    """Tracks at every token of every answer, where they are followed."""
    rows: Int[np.ndarray, " sample"]
    """Sample of the view that holds the tracks before each answer's first token."""


def print_verdict(judgement: Judgement, console: Console, *, brief: bool) -> None:
    """Print one verdict: a line, or with what it rests on."""
    console.print(_line(judgement) if brief else Group(*_verdict(judgement)), soft_wrap=brief)


def print_details(judgement: Judgement, console: Console) -> None:
    """Print the risk at every token, and the competing answers; nothing where no verdict is."""
    if not judgement.has_verdict:
        return
    risk = f"risk while it was written, by {judgement.streamer.name}{_unlike(judgement.streamer)}"
    tokens = [_token(token) for token in judgement.tokens]
    console.print(Group(Text(), Text(risk, "bold"), *tokens))
    console.print(Group(Text(), _competition(judgement.hypotheses)))


def write_live_page(path: Path, shown: Shown, facts: Mapping[str, str]) -> None:
    """Write one self-contained page with every judgement and its tracks.

    Args:
        path: The HTML file.
        shown: Judgements and tracks.
        facts: What was asked of whom, for the head of the page.
    """
    view = shown.view
    tracks = tracks_of(view, shown.rows.tolist()) if view else {}
    data, details = packed(
        {
            "layers": [str(layer) for layer in view.layers] if view else [],
            "latents": {},
            "statistics": {},
            "leader": "",
            "explainer": "",
            "n_answers": len(shown.judgements),
            "answers": [
                {**_answer(one, index), "tracks": tracks.get(int(row), [])}
                for index, (one, row) in enumerate(zip(shown.judgements, shown.rows, strict=True))
            ],
        }
    )
    page = environment().get_template("live.html")
    text = page.render(
        css=asset("report.css"),
        d3=asset(D3),
        js=script(*SCRIPTS),
        viewer=json_in_html(data),
        details=json_in_html(details),
        has_tracks=view is not None,
        has_ghosts=False,
        facts=facts,
        judgements=shown.judgements,
        judges=list({one.judge.name: one.judge for one in shown.judgements}.values()),
        streamers=list(dict.fromkeys(one.streamer.name for one in shown.judgements)),
        streaming=STREAMING,
        percent=percent,
        worth=worth,
        learned=learned,
    )
    path.write_text(text, encoding="utf-8")


def write_table(path: Path, judgements: Sequence[Judgement]) -> None:
    """Write one CSV line per prompt."""
    write_csv(path, TABLE, [_cells(one) for one in judgements])


def to_json(value: object) -> object:
    """Turn judgements into JSON's own kinds, records by field; what is not finite becomes null."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: to_json(held) for name, held in value._asdict().items()}  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, tuple | list):
        return [to_json(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    return value


def worth(judge: Judge) -> str:
    """Say how far a detector can be trusted."""
    if not isfinite(judge.auroc):
        return "not evaluated"
    return (
        f"cross-validated AUROC {number(judge.auroc)} [{number(judge.low)}, {number(judge.high)}]"
    )


def learned(judge: Judge) -> str:
    """Say which share of answers was hallucinated where it learned, and for which it says risks."""
    said = f"{percent(judge.prevalence)} of the answers it learned from were"
    if abs(judge.assumed - judge.prevalence) < EQUAL:
        return said
    return f"{said}, risks are for {percent(judge.assumed)}"


def _answer(judgement: Judgement, index: int) -> dict[str, object]:
    """Give the viewer what it shows of one answer."""
    gap = round(judgement.owner_gap, 4) if judgement.has_owner_test else None
    return {
        "index": index,
        "prompt": judgement.question,
        "text": judgement.answer,
        "references": list(judgement.references),
        "label": int(judgement.is_hallucinated),
        "category": judgement.verdict,
        "truth": "",
        "prob": round(judgement.own_prob, 4),
        "risk": round(judgement.probability, 4),
        "flagged": judgement.is_hallucinated,
        "explained_risk": None,
        "tokens": [token.text for token in judgement.tokens],
        "logprobs": [round(log(max(token.prob, 1e-30)), 4) for token in judgement.tokens],
        "token_risks": [round(token.risk, 4) for token in judgement.tokens],
        "owner": judgement.owner if judgement.has_owner_test else "",
        "owner_gap": gap,
        "notes": list(judgement.notes),
        "reasons": reasons_of(judgement.explanation),
        "hypotheses": [to_json(one) for one in judgement.hypotheses],
    }


def _cells(judgement: Judgement) -> list[object]:
    return [
        *(judgement.question, judgement.answer, judgement.verdict),
        *(f"{judgement.probability:.4f}", f"{judgement.own_prob:.4f}", judgement.judge.name),
        next((one.text for one in judgement.hypotheses if not one.is_answer), ""),
        judgement.owner,
        judgement.explanation.reasons[0].text,
        "; ".join(judgement.notes),
    ]


def _line(judgement: Judgement) -> Text:
    colour = _colour(judgement.probability)
    return Text.assemble(
        (f"{percent(judgement.probability) if judgement.has_verdict else '–':>8} ", colour),
        (f"{_bar(judgement.probability if judgement.has_verdict else 0.0)} ", colour),
        f"{_safe(judgement.question).replace(chr(10), ' ')} ",
        (_answered(judgement), "bold"),
        (f"  {judgement.judge.name}", "dim"),
    )


def _verdict(judgement: Judgement) -> list[RenderableType]:
    colour = _colour(judgement.probability)
    judge = judgement.judge
    title = Text.assemble(_safe(judgement.question), " ", (_answered(judgement), "bold"))
    if not judgement.has_verdict:
        return [title, Text(), Text(judgement.verdict, "bold")]
    verdict = Text.assemble(
        (judgement.verdict, f"bold {colour}"),
        f": hallucinated with a probability of {percent(judgement.probability)}",
        (f" (flagged from {percent(judge.threshold)} on; ", "dim"),
        (f"{learned(judge)})", "dim"),
    )
    parts = [title, Text(), verdict, Text(f"by {judge.name}, {worth(judge)}", "dim")]
    parts += [Text(_safe(f"note: {note}"), "yellow") for note in judgement.notes]
    if judgement.has_owner_test:
        whose = "the answer belongs more to" if judgement.owner_gap < 0 else "next best owner:"
        parts.append(Text(_safe(f"{whose} {judgement.owner}"), "dim"))
    if judgement.references:
        parts.append(Text(_safe(f"right: {' / '.join(judgement.references)}"), "dim"))
    parts += [Text(), _why(judgement)]
    return [*parts, Text(), Text(f"{1000 * judgement.seconds:.0f} ms", "dim")]


def _unlike(streamer: Judge) -> str:
    """Say where risks of tokens come of a detector that learned from something else."""
    return "" if streamer.name == STREAMING else " as learned on whole answers"


def _token(token: TokenRisk) -> Text:
    colour = _colour(token.risk)
    return Text.assemble(
        (f"  {_safe(token.text):<18}", colour),
        (f"{_bar(token.risk)} {percent(token.risk):>7}", colour),
        (f"   the model's own probability {percent(token.prob)}", "dim"),
    )


def _competition(hypotheses: Sequence[Hypothesis]) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for name in ("competing answers", "probability", "tracks that argue for its first token"):
        table.add_column(name, justify="right" if name == "probability" else "left")
    for one in hypotheses:
        said = [f"layers {p.layers[0]}-{p.layers[-1]} {p.push:+.2f}" for p in one.promoters]
        style = "bold" if one.is_answer else ""
        table.add_row(Text(_safe(one.text), style), percent(one.prob), ", ".join(said) or "none")
    return table


def _why(judgement: Judgement) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    table.add_column("log-odds", justify="right", no_wrap=True)
    for name in ("why", "usual where right", "where hallucinated"):
        table.add_column(name)
    for reason in judgement.explanation.reasons[:N_REASONS]:
        colour = "red" if reason.effect > 0 else "green"
        cells = (Text(reason.text), reason.right, reason.hallucinated)
        table.add_row(Text(f"{reason.effect:+.2f}", colour), *cells)
    sums = judgement.explanation.families
    said = ", ".join(f"{name} {effect:+.2f}" for name, effect in sums.items())
    table.add_row("", Text(f"by family: {said}; base {judgement.explanation.base:+.2f}", "dim"))
    return table


def _answered(judgement: Judgement) -> str:
    return _safe(judgement.answer) or "(nothing)"


def _safe(text: str) -> str:
    """Take out what would steer a terminal; it may come from a model or a file."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _colour(risk: float) -> str:
    return next(colour for limit, colour in RISING if risk < limit)


def _bar(share: float) -> str:
    n_full = round(BAR * share)
    return "█" * n_full + "░" * (BAR - n_full)
