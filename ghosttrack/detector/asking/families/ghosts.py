"""Look for the tracks of a question under other wordings and names.

Nothing is scored again: the copies are read and tracked (`detector/tracks/ghosts.py`, which says
what the columns are made of).
"""

from collections.abc import Mapping, Sequence
from math import inf

from ghosttrack.detector.asking.family import Family, Names, generator
from ghosttrack.detector.spec import StatisticSpec
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
    specs = []
    for kind, (what, sign) in KINDS.items():
        rows = [
            *(
                (f"jaccard_{at:02d}", f"overlap of latents at layer {at}", sign, 1.0)
                for at in layers
            ),
            ("jaccard", "mean overlap of latents over the layers", sign, 1.0),
            ("links", "overlap of the tracks' links", sign, 1.0),
            ("evidence", "share of the answer's attribution in tracks that stay", sign, 1.0),
            ("push", "positive attribution to the answer over the original's", sign, MOST_PUSH),
            ("push_max", "greatest of these ratios", sign, MOST_PUSH),
            ("loss", "attribution to the answer that is lost, logits", -sign, inf),
            ("loss_min", "least of these losses", -sign, inf),
        ]
        specs += [
            StatisticSpec(
                *(f"ghost_{kind}_{name}", "ghosts", f"{text}, {what}"),
                *(-inf if high == inf else 0.0, high, direction),
            )
            for name, text, direction, high in rows
        ]
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
