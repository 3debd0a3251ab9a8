"""Tables of a bank's latents: what they fire on, how often, and in which contexts."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64

from ghosttrack.analysis.enrichment import Enriched, Meaning
from ghosttrack.analysis.firings import Tally
from ghosttrack.data.windows import Windows
from ghosttrack.models.lm import LM
from ghosttrack.report.sheet import Cell, sheet_of

AROUND = 10
"""Tokens of a context before and after the one that a latent fired on, at most."""
COLUMNS = (
    *("hook", "latent", "firings", "rate", "mean activation", "max activation"),
    *("enriched tokens", "token", "fold", "q", "other firings", "other windows", "share on token"),
    *("monosemantic", "context"),
)
"""Those from `other` on are of the half of the text in which no token was chosen."""
PAIR = ("hook", "latent", "token id", "token", "firings", "expected", "fold", "p", "q")
"""Columns of `enrichment_rows`."""


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


def summary_sheet(found: Catalogue) -> pd.DataFrame:
    """Count per hook point; medians are of latents that fired, and of those that have a token."""
    rates = found.tally.tokens.sum(1) / len(found.tally.text.read)
    meaning, rows = found.meaning, []
    for at, hook in enumerate(found.hooks):
        own = slice(at * found.d_sae, (at + 1) * found.d_sae)
        shares = meaning.share[own]
        n_enriched = int((meaning.pair[own] >= 0).sum())
        counts = int((rates[own] == 0).sum()), n_enriched, int(meaning.is_monosemantic[own].sum())
        medians = _median(rates[own][rates[own] > 0]), _median(shares[~np.isnan(shares)])
        rows.append((hook, found.d_sae, *counts, *medians))
    counted = ("latents", "silent", "enriched", "monosemantic")
    return sheet_of(("hook", *counted, "median rate", "median share on token"), rows)


def _median(values: Float64[np.ndarray, " latent"]) -> float | None:
    return float(np.median(values)) if len(values) else None


def latents_sheet(found: Catalogue, contexts: Mapping[int, Context]) -> pd.DataFrame:
    """Describe every latent that fired, by its strongest context."""
    tally, pairs, meaning = found.tally, found.enriched, found.meaning
    firings = tally.tokens.sum(1)
    rates, means = firings / len(tally.text.read), tally.activation / np.maximum(firings, 1)
    n_enriched = np.bincount(pairs.latent, minlength=len(firings))
    shares, is_monosemantic = meaning.share, meaning.is_monosemantic
    rows: list[tuple[Cell, ...]] = []
    for latent, context in contexts.items():
        pair = int(meaning.pair[latent])
        token: tuple[Cell, ...] = (None, None, None)
        if pair >= 0:
            said = found.lm.decode([int(pairs.token[pair])])
            token = said, float(pairs.fold[pair]), float(pairs.q[pair])
        often = int(firings[latent]), float(rates[latent]), float(means[latent])
        other = int(meaning.firings[latent]), int(meaning.windows[latent]), float(shares[latent])
        says = "yes" if is_monosemantic[latent] else "no"
        rows.append(
            (
                *(*found.name(latent), *often, context.activation, int(n_enriched[latent])),
                *(*token, *other, says, str(context)),
            )
        )
    return sheet_of(COLUMNS, rows)


def enrichment_rows(found: Catalogue) -> Iterator[tuple[Cell, ...]]:
    """Yield every enriched pair of a latent and a token; there may be millions."""
    pairs = found.enriched
    words = {token: found.lm.decode([token]) for token in np.unique(pairs.token).tolist()}
    numbers = (pairs.firings, pairs.expected, pairs.fold, pairs.p, pairs.q)
    for latent, token, *rest in zip(pairs.latent, pairs.token, *numbers, strict=True):
        cells = [number.item() for number in rest]
        yield *found.name(int(latent)), int(token), words[int(token)], *cells


def write_contexts(path: Path, found: Catalogue) -> dict[int, Context]:
    """Write a line of JSON per latent that fired, and return its strongest context."""
    top, strongest = found.tally.strongest, {}
    with path.open("w", encoding="utf-8") as file:
        for latent in np.unique(top.latent).tolist():
            first, end = np.searchsorted(top.latent, (latent, latent + 1)).tolist()
            contexts = [
                _context(found.lm, found.tally.text.windows, int(place), float(value))
                for place, value in zip(top.place[first:end], top.value[first:end], strict=True)
            ]
            hook, number = found.name(latent)
            line = {"hook": hook, "latent": number, "contexts": [one._asdict() for one in contexts]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            strongest[latent] = contexts[0]
    return strongest


def _context(lm: LM, windows: Windows, place: int, value: float) -> Context:
    window = int(np.searchsorted(windows.bounds, place, side="right")) - 1
    start, end = windows.bounds[window], windows.bounds[window + 1]
    before = windows.ids[max(start, place - AROUND) : place].tolist()
    after = windows.ids[place + 1 : min(end, place + 1 + AROUND)].tolist()
    said = [lm.decode(ids) for ids in (before, [int(windows.ids[place])], after)]
    return Context(value, int(windows.documents[place]), *said)
