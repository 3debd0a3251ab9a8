"""Tables of a bank's latents: what they fire on, how often, and in which contexts."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ghosttrack.data.windows import Windows
from ghosttrack.models.lm import LM
from sweep.enrichment import Enriched, Meaning
from sweep.firings import Tally
from sweep.sheet import Cell, Sheet

AROUND = 10
"""Tokens of a context before and after the one that a latent fired on, at most."""
COLUMNS = (
    *("hook", "latent", "firings", "rate", "mean activation", "max activation"),
    *("enriched tokens", "token", "fold", "q", "other firings", "other windows", "share on token"),
    *("monosemantic", "context"),
)
"""Those from `other` on are of the half of the text in which no token was chosen."""


class Catalogue(NamedTuple):
    """The latents of a bank, those of all hook points in one row."""

    hooks: list[str]
    lm: LM
    tally: Tally
    enriched: Enriched
    meaning: Meaning

    @property
    def d_sae(self) -> int:
        """Latents of each hook point."""
        return len(self.tally.windows) // len(self.hooks)

    def name(self, latent: int) -> tuple[str, int]:
        """Give a latent's hook point and its number there."""
        hook, number = divmod(latent, self.d_sae)
        return self.hooks[hook], number


class Context(NamedTuple):
    """A firing in its text."""

    activation: float
    document: int
    """Place in the corpus."""
    before: str
    token: str
    after: str

    def __str__(self) -> str:
        """Write it in one line, the token in brackets.

        >>> str(Context(1.5, 0, "the capital of", " France", " is"))
        'the capital of [France] is'
        """
        return " ".join(f"{self.before} [{self.token.strip()}] {self.after}".split())


def summary_sheet(found: Catalogue) -> Sheet:
    """Count per hook point; the median rate is of latents that fired."""
    firings = found.tally.tokens.sum(1).reshape(len(found.hooks), -1)
    is_enriched = (found.meaning.pair >= 0).reshape(firings.shape)
    is_single = found.meaning.is_monosemantic.reshape(firings.shape)
    rates = firings / len(found.tally.text.read)
    rows: list[tuple[Cell, ...]] = [
        (
            *(hook, found.d_sae, int((rates[i] == 0).sum())),
            *(int(is_enriched[i].sum()), int(is_single[i].sum())),
            float(np.median(rates[i][rates[i] > 0])) if rates[i].any() else None,
        )
        for i, hook in enumerate(found.hooks)
    ]
    return Sheet(("hook", "latents", "silent", "enriched", "monosemantic", "median rate"), rows)


def latents_sheet(found: Catalogue, contexts: dict[int, list[Context]]) -> Sheet:
    """Describe every latent that fired."""
    tally, pairs, meaning = found.tally, found.enriched, found.meaning
    firings = tally.tokens.sum(1)
    rates, means = firings / len(tally.text.read), tally.activation / np.maximum(firings, 1)
    n_enriched = np.bincount(pairs.latent, minlength=len(firings))
    rows: list[tuple[Cell, ...]] = []
    for latent, own in contexts.items():
        pair = int(meaning.pair[latent])
        share = None if np.isnan(meaning.share[latent]) else float(meaning.share[latent])
        token: tuple[Cell, ...] = (None, None, None)
        if pair >= 0:
            said = found.lm.decode([int(pairs.token[pair])])
            token = said, float(pairs.fold[pair]), float(pairs.q[pair])
        often = int(firings[latent]), float(rates[latent]), float(means[latent])
        other = int(meaning.firings[latent]), int(meaning.windows[latent]), share
        says = "yes" if meaning.is_monosemantic[latent] else "no"
        rows.append(
            (
                *(*found.name(latent), *often, own[0].activation, int(n_enriched[latent])),
                *(*token, *other, says, str(own[0])),
            )
        )
    return Sheet(COLUMNS, rows)


def enrichment_sheet(found: Catalogue) -> Sheet:
    """List every enriched pair of a latent and a token."""
    pairs = found.enriched
    words = {token: found.lm.decode([token]) for token in set(pairs.token.tolist())}
    numbers = [column.tolist() for column in (pairs.firings, pairs.expected, pairs.fold)]
    columns = (pairs.latent.tolist(), pairs.token.tolist(), *numbers, pairs.p.tolist())
    rows: list[tuple[Cell, ...]] = [
        (*found.name(latent), token, words[token], *rest)
        for latent, token, *rest in zip(*columns, pairs.q.tolist(), strict=True)
    ]
    names = ("hook", "latent", "token id", "token", "firings", "expected", "fold", "p", "q")
    return Sheet(names, rows)


def contexts_of(found: Catalogue) -> dict[int, list[Context]]:
    """Give each latent that fired its strongest firings in their texts, the strongest first."""
    top, contexts = found.tally.strongest, {}
    windows = found.tally.text.windows
    for latent, place, value in zip(*(column.tolist() for column in top), strict=True):
        contexts.setdefault(latent, []).append(_context(found.lm, windows, place, value))
    return contexts


def write_contexts(path: Path, found: Catalogue, contexts: dict[int, list[Context]]) -> None:
    """Write a line of JSON per latent."""
    with path.open("w", encoding="utf-8") as file:
        for latent, own in contexts.items():
            hook, number = found.name(latent)
            line = {"hook": hook, "latent": number, "contexts": [one._asdict() for one in own]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _context(lm: LM, windows: Windows, place: int, value: float) -> Context:
    window = int(np.searchsorted(windows.bounds, place, side="right")) - 1
    start, end = windows.bounds[window], windows.bounds[window + 1]
    before = windows.ids[max(start, place - AROUND) : place].tolist()
    after = windows.ids[place + 1 : min(end, place + 1 + AROUND)].tolist()
    said = [lm.decode(ids) for ids in (before, [int(windows.ids[place])], after)]
    return Context(value, int(windows.documents[place]), *said)
