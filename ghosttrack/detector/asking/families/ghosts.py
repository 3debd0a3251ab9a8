"""Look for the tracks of a question under other wordings and names.

Nothing is scored again: the copies are read and tracked (`detector/tracks/ghosts.py`, which says
what the columns are made of).
"""

from collections.abc import Mapping, Sequence

from ghosttrack.detector.asking.family import Family, Names, generator
from ghosttrack.detector.table import FRACTION, REAL, StatisticSpec, define
from ghosttrack.questions.names import NAME, as_template, other_parts, strangers
from ghosttrack.questions.sets import Question

KINDS: Mapping[str, tuple[str, int]] = {
    "paraphrase": ("in other wordings", -1),
    "first": ("with other first names", +1),
    "rest": ("with other last names", +1),
    "whole": ("with other names", +1),
}
"""Kind of copy: what is other, and the direction expected of what stays."""
MOST_PUSH = 5.0
"""Ratios of attributions are cut here: an original without any has none."""


def ghost_specs(layers: Sequence[int]) -> tuple[StatisticSpec, ...]:
    """Say what the columns are, in their order."""
    share, push = "share of the answer's attribution in tracks that stay", (0.0, MOST_PUSH)
    specs = []
    for kind, (what, sign) in KINDS.items():
        at_layers = [
            (f"jaccard_{at:02d}", FRACTION, sign, f"overlap of latents at layer {at}, {what}")
            for at in layers
        ]
        specs += define(
            "ghosts",
            *at_layers,
            ("jaccard", FRACTION, sign, f"mean overlap of latents over the layers, {what}"),
            ("links", FRACTION, sign, f"overlap of the tracks' links, {what}"),
            ("evidence", FRACTION, sign, f"{share}, {what}"),
            ("push", push, sign, f"positive attribution to the answer over the original's, {what}"),
            ("push_max", push, sign, f"greatest of these ratios, {what}"),
            ("loss", REAL, -sign, f"attribution to the answer that is lost, logits, {what}"),
            ("loss_min", REAL, -sign, f"least of these losses, {what}"),
            prefix=f"ghost_{kind}_",
        )
    return tuple(specs)


def ghost_copies(
    question: Question, names: Names, counts: tuple[int, int], seed: int
) -> dict[str, tuple[str, ...]]:
    """Write at most so many wordings, and swaps of each kind; a kind may have none."""
    n_wordings, n_names = counts
    template = as_template(question.prompt, question.subject)
    rng = generator(seed, "ghosts", question.id)
    drawn: dict[str, tuple[str, ...]] = {"first": (), "rest": (), "whole": ()}
    if template:
        drawn["first"], drawn["rest"] = other_parts(question, names, n_names, rng)
        drawn["whole"] = strangers(question, names, n_names, rng)
    swaps = {
        kind: tuple(template.replace(NAME, name) for name in found) for kind, found in drawn.items()
    }
    return {"paraphrase": question.wordings[:n_wordings], **swaps}


FAMILY = Family(
    name="ghosts",
    order=90,
    default=8,
    needs="another wording, or a subject in its text and other names of its kind",
    specs=ghost_specs(()),
)
"""The number counts the names of each kind of swap; wordings are as many as paraphrases."""
