"""The data behind the page's track viewer: a choice of answers with their tracks."""

from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np
from jaxtyping import Float

from ghosttrack.report.material import Owners, ReportMaterial, TrackView

N_ANSWERS = 60
"""Answers on the page, as many of each category as its share and number allow."""
N_TRACKS = 60
"""Tracks per answer, the strongest; more cannot be told apart by eye."""


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
    tracks = _tracks(view, chosen) if view is not None else {}
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


def _tracks(view: TrackView, chosen: list[int]) -> dict[int, list[dict[str, object]]]:
    """Describe each chosen answer's strongest tracks."""
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
        "prompt": answers.prompts[index],
        "text": answers.texts[index],
        "references": list(answers.references[index]),
        "label": int(answers.labels[index]),
        "category": answers.categories[index],
        "prob": round(prob, 4) if isfinite(prob) else None,
        "risk": round(float(risk[index]), 4),
        "tokens": [decode([token]).strip() for token in answers.token_ids[index]],
        "logprobs": [round(value, 4) for value in answers.logprobs[index]],
        "owner": owner,
        "owner_gap": gap,
    }


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
    }
