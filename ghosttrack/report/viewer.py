"""The data behind the page's track viewer: a choice of answers with their tracks."""

from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.judgement import About, Explanation, explain
from ghosttrack.report.material import Owners, ReportMaterial, TrackView

N_ANSWERS = 60
"""Answers on the page, as many of each category as its share and number allow."""
N_TRACKS = 60
"""Tracks per answer, the strongest; more cannot be told apart by eye."""
N_REASONS = 8
LEAST_EFFECT = 0.05
"""Log-odds below which a column is not worth a line."""
STAYS = {"ghost": "whole", "robust": "paraphrase"}
"""What the page calls the share of a track that stays under other names, and other wordings."""


def viewer_data(
    material: ReportMaterial,
    risk: Float[np.ndarray, " sample"],
    decode: Callable[[Sequence[int]], str],
) -> dict[str, object]:
    """Collect what the viewer draws, as JSON values.

    Args:
        material: The report's material.
        risk: Probability of hallucination per answer, of the report's strongest detector.
        decode: Spells token ids.
    """
    chosen = choose(material.answers.categories, risk)
    view = material.view
    tracks = tracks_of(view, chosen) if view is not None else {}
    return {
        "layers": [str(layer) for layer in view.layers] if view is not None else [],
        "answers": [
            {**_answer(material, index, risk, decode), "tracks": tracks.get(index, [])}
            for index in chosen
        ],
    }


def choose(categories: Sequence[str], risk: Float[np.ndarray, " sample"]) -> list[int]:
    """Choose answers so that every category shows its riskiest, its safest and its middle.

    >>> choose(["right", "wrong", "right"], np.array([0.1, 0.9, 0.2]))
    [0, 1, 2]
    """
    names = sorted(set(categories))
    share = max(1, N_ANSWERS // max(1, len(names)))
    chosen: set[int] = set()
    for name in names:
        rows = np.flatnonzero(np.array(categories) == name)
        ranked = rows[np.argsort(risk[rows], kind="stable")]
        places = np.linspace(0, len(ranked) - 1, min(share, len(ranked))).round().astype(int)
        chosen.update(ranked[places].tolist())
    return sorted(chosen)


def tracks_of(view: TrackView, chosen: Sequence[int]) -> dict[int, list[dict[str, object]]]:
    """Describe each chosen sample's strongest tracks, as JSON values."""
    strength = np.zeros(len(view.tracks.sample))
    sample, layer, slot = np.nonzero(view.tracks.track_of >= 0)
    np.maximum.at(
        strength,
        view.tracks.track_of[sample, layer, slot],
        np.abs(view.observations.magnitudes[sample, layer, slot]),
    )
    found = {}
    for index in chosen:
        tracks = np.flatnonzero(view.tracks.sample == index)
        rank = np.lexsort((-strength[tracks], ~view.tracks.confirmed[tracks]))
        found[index] = [_track(view, index, int(track)) for track in tracks[rank[:N_TRACKS]]]
    return found


def _answer(
    material: ReportMaterial,
    index: int,
    risk: Float[np.ndarray, " sample"],
    decode: Callable[[Sequence[int]], str],
) -> dict[str, object]:
    answers = material.answers
    owner, gap = _owner(material.owners, index)
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
        "risk": round(float(risk[index]), 4),
        "tokens": [decode([token]).strip() for token in answers.token_ids[index]],
        "logprobs": [round(value, 4) for value in answers.logprobs[index]],
        "owner": owner,
        "owner_gap": gap,
        "reasons": _reasons(material, index),
    }


def reasons_of(explanation: Explanation) -> list[dict[str, object]]:
    """Describe the columns that moved a score most, as JSON values."""
    return [
        {
            "text": reason.text,
            "name": reason.name,
            "effect": round(reason.effect, 3),
            "right": reason.right,
            "hallucinated": reason.hallucinated,
        }
        for reason in explanation.reasons[:N_REASONS]
        if abs(reason.effect) >= LEAST_EFFECT
    ]


def _reasons(material: ReportMaterial, index: int) -> list[dict[str, object]]:
    """Explain an answer by the detector that is kept; it was fitted on this answer too."""
    if material.fitted is None:
        return []
    specs = {spec.name: spec for spec in material.specs}
    tables = {name: table.take(np.array([index])) for name, table in material.statistics.items()}
    values = material.fitted.values(tables)[0]
    owner, _ = _owner(material.owners, index)
    about = About(material.answers.subjects[index], owner)
    return reasons_of(explain(material.fitted, values, specs, about))


def _owner(owners: Owners, index: int) -> tuple[str, float | None]:
    if not len(owners.names) or not owners.names[index] or not np.isfinite(owners.gaps[index]):
        return "", None
    return owners.names[index], round(float(owners.gaps[index]), 4)


def _track(view: TrackView, index: int, track: int) -> dict[str, object]:
    latents, magnitudes = (array[index] for array in view.observations)
    layers, slots = np.nonzero(view.tracks.track_of[index] == track)
    sizes = magnitudes[layers, slots]
    floor = float(magnitudes[latents >= 0].min())
    return {
        "layers": layers.tolist(),
        "latents": latents[layers, slots].tolist(),
        "sizes": [round(float(size) - floor, 3) for size in sizes],
        "promotes": view.promotes[track] if view.push[track] > 0 else "",
        "push": round(float(view.push[track]), 4),
        **{name: _share(view.stay[kind][track]) for name, kind in STAYS.items() if view.stay},
    }


def _share(value: float) -> float | None:
    return round(float(value), 3) if isfinite(value) else None
