"""Does a link say that the deeper latent hangs on the upper one?

For links of confirmed tracks on unlabelled text (latent i at one hook point, j at the next) the
upper latent is taken away: what the bank says it writes is subtracted from the residual stream, at
that position alone, and the blocks up to the next hook point run again on the whole prefix. The
drop of j's pre-activation is compared with the drops of `N_MATCHED` latents of the same sample that
were about as strong and to which no link of the graph leads from i. A link passes if none of them
drops as much: one in twenty links that mean nothing does.

Most of the effect goes straight through the residual stream, which carries on what is written; the
blocks can only add to it or take from it.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.observe import Standard, observe
from ghosttrack.models.lm import LM
from ghosttrack.sae.bank import Bank
from ghosttrack.tracking.tracker import Tracker, link

N_MATCHED = 19
"""1 / (N_MATCHED + 1), 5 %, of links that mean nothing pass."""
LIKENESS = 1.5
"""Most by which a matched latent's pre-activation may differ, as a factor either way."""
BLOCK_FLOATS = 2**24
"""Numbers held at once in residual streams, or in pre-activations: 64 MiB in fp32."""

COLUMNS = ("pair", "window", "drop", "passes")
"""Of the table of links: the upper hook point's number, the window, the drop as a share of the
pre-activation before it, and whether the link passes (0 or 1)."""


class Reader(NamedTuple):
    """How the residual streams of a model become tracks."""

    lm: LM
    layers: list[int]
    """Block of each hook point, ascending."""
    bank: Bank
    """On the model's device."""
    standard: Standard
    top_k: int
    tracker: Tracker


class Passages(NamedTuple):
    """Text, each piece up to the position that is looked at."""

    ids: Int[Tensor, "window pos"]
    lengths: Int[np.ndarray, " window"]

    @property
    def mask(self) -> Bool[Tensor, "window pos"]:
        """True where there is a token."""
        return torch.arange(self.ids.shape[1]) < torch.from_numpy(self.lengths)[:, None]


class _Link(NamedTuple):
    """A link to be tried."""

    window: int
    pair: int
    source: int
    target: int
    act: float
    """What the source writes along its direction, in the residual stream's units."""
    matched: Int[np.ndarray, " matched"]


def passages(
    ids: Int[Tensor, "window pos"], lengths: Int[np.ndarray, " window"], least: int, seed: int
) -> Passages:
    """End each window at a position drawn at random, with `least` tokens or more before it.

    `ids` are padded on the right; windows that are too short are left out.
    """
    rng = np.random.default_rng(seed)
    usable = np.flatnonzero(lengths > least)
    ends = rng.integers(least, lengths[usable]) + 1
    return Passages(ids[torch.from_numpy(usable), : int(ends.max(initial=0))], ends)


def causal_links(reader: Reader, text: Passages, seed: int) -> Table:
    """Try one link per window and pair of hook points, drawn from those that can be tried.

    These are the ones whose upper latent the bank counts as active, so that it writes something,
    and whose lower one has enough matched latents.
    """
    rng = np.random.default_rng(seed)
    floats = len(reader.layers) * max(reader.bank.d_sae, text.ids.shape[1] * reader.lm.d_model)
    size = max(1, BLOCK_FLOATS // floats)
    rows = [np.empty((0, len(COLUMNS)))]
    for start in range(0, len(text.lengths), size):
        block = Passages(text.ids[start : start + size], text.lengths[start : start + size])
        found = _try(reader, block, rng)
        found[:, COLUMNS.index("window")] += start
        rows.append(found)
    return Table(COLUMNS, np.concatenate(rows))


@torch.no_grad()
def _try(reader: Reader, text: Passages, rng: np.random.Generator) -> Float[np.ndarray, "link _"]:
    """Try the links of a block of windows."""
    lm, bank, directions = reader.lm, reader.bank, reader.bank.directions
    streams = lm.residuals(text.ids, text.mask, reader.layers)
    windows, last = torch.arange(len(text.lengths)), torch.from_numpy(text.lengths - 1)
    before = streams[:, windows, last].float()
    pre_acts = bank.pre_acts(before).cpu().numpy()
    links = _draw(reader, before.cpu().numpy(), pre_acts, rng)
    after = before.clone()
    for pair in sorted({one.pair for one in links}):
        chosen = [one for one in links if one.pair == pair]
        rows = torch.tensor([one.window for one in chosen])
        at = torch.arange(len(chosen)), last[rows]
        acts = torch.tensor([one.act for one in chosen], device=streams.device)
        sources = torch.tensor([one.source for one in chosen], device=streams.device)
        edited = streams[pair, rows]
        edited[at] -= (acts[:, None] * directions[pair, sources]).to(edited.dtype)
        layer, until = reader.layers[pair : pair + 2]
        after[pair + 1, rows] = lm.resume(edited, text.mask[rows], layer, until)[at].float()
    drops = pre_acts - bank.pre_acts(after).cpu().numpy()
    return np.array([_row(one, drops, pre_acts) for one in links]).reshape(-1, len(COLUMNS))


def _row(
    link: _Link,
    drops: Float[np.ndarray, "hook window d_sae"],
    pre_acts: Float[np.ndarray, "hook window d_sae"],
) -> tuple[float, ...]:
    where = link.pair + 1, link.window
    drop = drops[where][link.target]
    passes = drop > drops[where][link.matched].max()
    row = link.pair, link.window, drop / pre_acts[where][link.target], passes
    return tuple(float(value) for value in row)


def _draw(
    reader: Reader,
    residuals: Float[np.ndarray, "hook window d_model"],
    pre_acts: Float[np.ndarray, "hook window d_sae"],
    rng: np.random.Generator,
) -> list[_Link]:
    """Draw a link per window and pair of hook points."""
    observed = observe(reader.bank, residuals, reader.top_k, reader.standard)
    latents, tracks = observed.observations.latents, link(observed.observations, *reader.tracker)
    is_confirmed = np.append(tracks.confirmed, False)[tracks.track_of]
    targets = reader.tracker.graph.open_targets(reader.tracker.settings)
    links = []
    for pair in range(len(reader.layers) - 1):
        above, below = tracks.track_of[:, pair], tracks.track_of[:, pair + 1]
        can_go = is_confirmed[:, pair] & (observed.acts[:, pair] > 0)
        window, slot, heir = np.nonzero(can_go[:, :, None] & (above[:, :, None] == below[:, None]))
        tried: set[int] = set()
        for one in rng.permutation(len(window)).tolist():
            at, source = int(window[one]), int(latents[window[one], pair, slot[one]])
            if at in tried:
                continue
            target = int(latents[at, pair + 1, heir[one]])
            linked = targets[reader.tracker.graph.pair(pair, 1), source]
            matched = _matched(pre_acts[pair + 1, at], target, linked)
            if len(matched) == N_MATCHED:
                tried.add(at)
                act = float(observed.acts[at, pair, slot[one]])
                links.append(_Link(at, pair, source, target, act, matched))
    return links


def _matched(
    pre_acts: Float[np.ndarray, " d_sae"], target: int, linked: Int[np.ndarray, " candidate"]
) -> Int[np.ndarray, " matched"]:
    """The latents nearest to the target in strength, at most `N_MATCHED`, linked ones left out."""
    ratio = np.abs(np.log(np.maximum(pre_acts, 1e-30) / pre_acts[target]))
    ratio[linked[linked < len(pre_acts)]] = np.inf
    ratio[target] = np.inf
    nearest = np.argsort(ratio, kind="stable")[:N_MATCHED]
    return nearest[ratio[nearest] <= np.log(LIKENESS)]
