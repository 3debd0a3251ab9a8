"""The data behind the page's track viewer: a choice of answers with their tracks."""

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.judgement import About, Explanation, explain
from ghosttrack.report.contents import Owners, ReportContents, TrackView

N_ANSWERS = 3000
"""Answers on the page; of more, as many of each category as its share and number allow."""
N_TRACKS = 40
"""Tracks per answer, the strongest; more cannot be told apart by eye."""
CHUNK = 50
"""Answers whose details are unpacked at once."""
LISTED = (
    *("index", "prompt", "text", "label", "category", "truth", "risk", "flagged", "prob"),
    *("n_ghosts", "n_linked"),
)
"""What the list of answers shows and filters by; all else is a detail."""
GHOST = 0.5
"""Share of a track that stays under other names from which on it is a ghost."""
N_BINS = 20
N_REASONS = 8
LEAST_EFFECT = 0.05
"""Log-odds below which a column is not worth a line."""
STAYS = {"ghost": "whole", "robust": "paraphrase"}
"""What the page calls the share of a track that stays under other names, and other wordings."""


def viewer_data(
    contents: ReportContents,
    leader: str,
    decode: Callable[[Sequence[int]], str],
) -> dict[str, object]:
    """Collect what the viewer draws, as JSON values.

    Args:
        contents: The report's contents.
        leader: Detector whose risk and flag every answer carries.
        decode: Spells token ids.
    """
    risk = contents.evaluation.scores[leader]
    chosen = choose(contents.answers.categories, risk)
    view = contents.view
    reasons = _reasons(contents, chosen)
    rows = chosen if view is None or view.answers is None else range(len(chosen))
    tracks = tracks_of(view, rows) if view is not None else {}
    return {
        "layers": [str(layer) for layer in view.layers] if view is not None else [],
        "latents": dict(view.words) if view is not None else {},
        "statistics": _distributions(contents),
        "n_answers": len(risk),
        "leader": leader,
        "explainer": contents.fitted.name if contents.fitted else "",
        "answers": [
            {
                **_answer(contents, index, leader, decode),
                "reasons": reasons.get(index, []),
                "tracks": tracks.get(row, []),
            }
            for index, row in zip(chosen, rows, strict=True)
        ],
    }


def packed(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Split what a page lists from what it unpacks when an answer is chosen.

    Returns:
        The viewer's data with what is listed of each answer, and the details of every `CHUNK`
        answers as JSON, gzip and base64.
    """
    answers = [{**one, **_counts(one["tracks"])} for one in data["answers"]]
    listed = [{name: one[name] for name in LISTED} for one in answers]
    details = [
        {name: value for name, value in one.items() if name not in LISTED} for one in answers
    ]
    chunks = [details[start : start + CHUNK] for start in range(0, len(details), CHUNK)]
    texts = [json.dumps(chunk, ensure_ascii=False, allow_nan=False) for chunk in chunks]
    zipped = [gzip.compress(text.encode(), compresslevel=6, mtime=0) for text in texts]
    spelt = [base64.b64encode(one).decode() for one in zipped]
    return {**data, "answers": listed, "chunk": CHUNK}, spelt


def _counts(tracks: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    shares = [one.get("ghost") for one in tracks if one["promotes"]]
    return {
        "n_ghosts": sum(share is not None and share >= GHOST for share in shares),
        "n_linked": sum(len(one["layers"]) > 1 for one in tracks),
    }


def _distributions(contents: ReportContents) -> dict[str, object]:
    """Count every statistic among right and among hallucinated answers, as far as it explains."""
    if contents.fitted is None:
        return {}
    labels, found = contents.answers.labels, {}
    for column, values in zip(
        contents.fitted.columns, contents.fitted.values(contents.statistics).T, strict=True
    ):
        known = np.isfinite(values)
        low, high = np.quantile(values[known], (0.01, 0.99)) if known.any() else (0.0, 0.0)
        if low < high:
            clipped = np.clip(values, low, high)
            counts = [
                np.histogram(clipped[known & (labels == label)], N_BINS, (low, high))[0]
                for label in (0, 1)
            ]
            found[column.partition(":")[2]] = {
                "low": float(low),
                "high": float(high),
                "counts": [(one / max(1, one.sum())).round(3).tolist() for one in counts],
            }
    return found


def choose(categories: Sequence[str], risk: Float[np.ndarray, " sample"]) -> list[int]:
    """Choose answers so that every category shows its riskiest, its safest and its middle.

    >>> choose(["right", "wrong", "right"], np.array([0.1, 0.9, 0.2]))
    [0, 1, 2]
    """
    named = np.array(categories)
    rows = [np.flatnonzero(named == name) for name in sorted(set(categories))]
    chosen: set[int] = set()
    for left, mine in zip(range(len(rows), 0, -1), sorted(rows, key=len), strict=True):
        share = max(1, (N_ANSWERS - len(chosen)) // left)  # what small categories leave, others get
        ranked = mine[np.argsort(risk[mine], kind="stable")]
        places = np.linspace(0, len(ranked) - 1, min(share, len(ranked))).round().astype(int)
        chosen.update(ranked[places].tolist())
    return sorted(chosen)


def tracks_of(view: TrackView, chosen: Sequence[int]) -> dict[int, list[dict[str, object]]]:
    """Describe each chosen sample's strongest tracks, as JSON values."""
    said = _said(view)
    return {index: _tracks(view, index, said) for index in chosen}


def _tracks(
    view: TrackView, index: int, said: Mapping[str, Sequence[object]]
) -> list[dict[str, object]]:
    """Describe a sample's strongest tracks, confirmed ones first."""
    owners = view.tracks.track_of[index]
    layers, slots = np.nonzero(owners >= 0)
    order = np.argsort(owners[layers, slots], kind="stable")  # layers ascend within a track
    layers, slots = layers[order], slots[order]
    tracks, starts = np.unique(owners[layers, slots], return_index=True)
    if not len(tracks):
        return []
    latents, magnitudes = (array[index] for array in view.observations)
    floor = float(magnitudes[latents >= 0].min())
    sizes = magnitudes[layers, slots]
    strength = np.maximum.reduceat(np.abs(sizes), starts)
    rank = np.lexsort((-strength, ~view.tracks.confirmed[tracks]))[:N_TRACKS]
    cells = {
        "layers": layers,
        "latents": latents[layers, slots],
        "sizes": (sizes.astype(np.float64) - floor).round(2),
        "costs": (-view.tracks.link_llr[index][layers, slots].astype(np.float64)).round(1),
    }
    ends = np.append(starts[1:], len(layers))
    lists = {name: values.tolist() for name, values in cells.items()}
    found = []
    for place in rank.tolist():
        span = slice(int(starts[place]), int(ends[place]))
        one = {name: values[span] for name, values in lists.items()}
        one["costs"] = [None if isnan(cost) else cost for cost in one["costs"]]
        track = int(tracks[place])
        found.append({**one, **{name: values[track] for name, values in said.items()}})
    return found


def _answer(
    contents: ReportContents,
    index: int,
    leader: str,
    decode: Callable[[Sequence[int]], str],
) -> dict[str, object]:
    answers, evaluation = contents.answers, contents.evaluation
    explained = evaluation.scores.get(contents.fitted.name) if contents.fitted else None
    owner, gap = _owner(contents.owners, index)
    prob = float(answers.prob[index])
    return {
        "index": index,
        "prompt": answers.asked[index],
        "text": answers.texts[index],
        "references": list(answers.references[index]),
        "label": int(answers.labels[index]),
        "category": answers.categories[index],
        "truth": answers.categories[index],
        "prob": round(prob, 4) if isfinite(prob) else None,
        "risk": round(float(evaluation.scores[leader][index]), 4),
        "flagged": bool(evaluation.flagged[leader][index]),
        "explained_risk": None if explained is None else round(float(explained[index]), 4),
        "tokens": [decode([token]).strip() for token in answers.token_ids[index]],
        "logprobs": [round(value, 4) for value in answers.logprobs[index]],
        "owner": owner,
        "owner_gap": gap,
        "token_risks": contents.token_risks[index].round(3).tolist()
        if contents.token_risks
        else [],
    }


def reasons_of(explanation: Explanation) -> list[dict[str, object]]:
    """Describe the columns that moved a score most, as JSON values."""
    return [
        {
            "text": reason.text,
            "name": reason.name,
            "value": reason.value if isfinite(reason.value) else None,
            "effect": round(reason.effect, 3),
            "right": reason.right,
            "hallucinated": reason.hallucinated,
        }
        for reason in explanation.reasons[:N_REASONS]
        if abs(reason.effect) >= LEAST_EFFECT
    ]


def _reasons(contents: ReportContents, chosen: Sequence[int]) -> dict[int, list[dict[str, object]]]:
    """Explain answers by the detector that is kept; it was fitted on them too."""
    fitted, subjects = contents.fitted, contents.answers.subjects
    if fitted is None:
        return {}
    specs = {spec.name: spec for spec in contents.specs}
    values, owners = fitted.values(contents.statistics), contents.owners
    about = {index: About(subjects[index], _owner(owners, index)[0]) for index in chosen}
    return {
        index: reasons_of(explain(fitted, values[index], specs, one))
        for index, one in about.items()
    }


def _owner(owners: Owners, index: int) -> tuple[str, float | None]:
    if not len(owners.names) or not owners.names[index] or not np.isfinite(owners.gaps[index]):
        return "", None
    return owners.names[index], round(float(owners.gaps[index]), 4)


def _said(view: TrackView) -> dict[str, list[object]]:
    """Say of every track what it argues for, and how much of it stays in copies."""
    shares = {name: view.stay[kind].round(2).tolist() for name, kind in STAYS.items() if view.stay}
    argues = zip(view.promotes, (view.push > 0).tolist(), strict=True)
    return {
        "promotes": [word if rises else "" for word, rises in argues],
        "push": view.push.astype(np.float64).round(3).tolist(),
        **{name: [None if isnan(one) else one for one in of] for name, of in shares.items()},
    }
