"""Does a link say that the deeper latent hangs on the upper one?

For links of confirmed tracks on unlabelled text (latent i at one hook point, j at the next) the
upper latent is taken away: what the bank says it writes is subtracted from the residual stream, at
that position alone, and the blocks up to the next hook point run again on the whole prefix.

Whatever lies near i in direction then drops, as the residual stream carries on what is written:
that is arithmetic, and no sign that a block reads i. So j is compared with `N_MATCHED` latents of
the same sample that were about as strong and to which no link of the graph leads from i, each
turned towards i until it meets it at the cosine at which j does. What the subtraction does by
itself is then the same for all of them, and a link passes if what the blocks do makes none of them
drop as much. How often links that mean nothing pass is measured by the same test of the same
source and a latent of a confirmed track that no link joins to it.
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
"""Were all latents alike, 1 / (N_MATCHED + 1), 5 %, of links that mean nothing would pass."""
LIKENESS = 1.5
"""Most by which a matched latent's pre-activation may differ, as a factor either way."""
ROUNDING = 1e-5
"""Drops closer than this share of what is taken away are equal."""
BLOCK_FLOATS = 2**24
"""Numbers held at once in residual streams, or in pre-activations: 64 MiB in fp32."""

COLUMNS = ("pair", "window", "drop", "carried", "passes", "by_chance")
"""Of the table of links: the upper hook point's number, the window, the drop as a share of the
pre-activation before it, the share that drops without a block, and whether the link passes (0 or
1), and whether a pair that no link joins does (NaN where there was none)."""


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


class _Aim(NamedTuple):
    """A deeper latent, and those that it is compared with."""

    latent: int
    matched: Int[np.ndarray, " matched"]


class _Link(NamedTuple):
    """A link to be tried."""

    window: int
    pair: int
    source: int
    act: float
    """What the source writes along its direction, in the residual stream's units."""
    target: _Aim
    other: _Aim | None
    """To which no link leads from the source."""


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
    rows = [np.empty((0, len(COLUMNS)))]
    for pair in sorted({one.pair for one in links}):
        chosen = [one for one in links if one.pair == pair]
        rows_of = torch.tensor([one.window for one in chosen])
        at = torch.arange(len(chosen)), last[rows_of]
        acts = torch.tensor([one.act for one in chosen], device=streams.device)
        taken = directions[pair, torch.tensor([one.source for one in chosen]).to(streams.device)]
        edited = streams[pair, rows_of]
        edited[at] -= (acts[:, None] * taken).to(edited.dtype)
        layer, until = reader.layers[pair : pair + 2]
        after = lm.resume(edited, text.mask[rows_of], layer, until)[at].float()
        lost = before[pair + 1, rows_of] - after
        drops = _Drops.of(bank.W_enc[pair + 1], taken, lost)
        rows += [drops.row(n, one, pre_acts[pair + 1, one.window]) for n, one in enumerate(chosen)]
    return np.vstack(rows)


class _Drops(NamedTuple):
    """What every latent of the deeper hook point loses, link by link."""

    drop: Float[np.ndarray, "link d_sae"]
    """Of its pre-activation."""
    toward: Float[np.ndarray, "link d_sae"]
    """Length of its encoder row along what is taken away."""
    across: Float[np.ndarray, "link d_sae"]
    """Length of the rest of that row."""
    beyond: Float[np.ndarray, "link d_sae"]
    """Drop along that rest, per unit of its length."""

    @classmethod
    def of(
        cls,
        encoder: Float[Tensor, "d_model d_sae"],
        taken: Float[Tensor, "link d_model"],
        lost: Float[Tensor, "link d_model"],
    ) -> "_Drops":
        """Read the change of the residual stream off every latent."""
        drop, toward = lost @ encoder, taken @ encoder
        across = (encoder.square().sum(0) - toward.square()).clamp_min(1e-12).sqrt()
        along = (lost * taken).sum(1, keepdim=True)
        found = drop, toward, across, (drop - toward * along) / across
        return cls(*(one.cpu().numpy() for one in found))

    def row(self, n: int, link: _Link, pre_acts: Float[np.ndarray, " d_sae"]) -> list[float]:
        """Fill the columns of the n-th link."""
        target = link.target.latent
        shares = np.array([self.drop[n, target], link.act * self.toward[n, target]])
        drop, carried = (shares / pre_acts[target]).tolist()
        passed = [
            np.nan if aim is None else float(self._passes(n, aim, ROUNDING * abs(link.act)))
            for aim in (link.target, link.other)
        ]
        return [float(link.pair), float(link.window), drop, carried, *passed]

    def _passes(self, n: int, aim: _Aim, least: float) -> bool:
        beyond = self.beyond[n, aim.latent] - self.beyond[n, aim.matched].max()
        return bool(self.across[n, aim.latent] * beyond > least)


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
            act, strengths = float(observed.acts[at, pair, slot[one]]), pre_acts[pair + 1, at]
            linked = targets[reader.tracker.graph.pair(pair, 1), source]
            below_it = int(latents[at, pair + 1, heir[one]])
            target = _aim(strengths, below_it, linked)
            if target is not None:
                tried.add(at)
                there = latents[at, pair + 1][is_confirmed[at, pair + 1]]
                apart = rng.permutation(np.setdiff1d(there, [*linked, below_it])).tolist()
                others = filter(None, (_aim(strengths, other, linked) for other in apart))
                links.append(_Link(at, pair, source, act, target, next(others, None)))
    return links


def _aim(
    pre_acts: Float[np.ndarray, " d_sae"], latent: int, linked: Int[np.ndarray, " candidate"]
) -> _Aim | None:
    """Find the `N_MATCHED` latents nearest in strength, linked ones left out; None if too few."""
    ratio = np.abs(np.log(np.maximum(pre_acts, 1e-30) / max(pre_acts[latent], 1e-30)))
    ratio[linked[linked < len(pre_acts)]] = np.inf
    ratio[latent] = np.inf
    nearest = np.argsort(ratio, kind="stable")[:N_MATCHED]
    is_alike = len(nearest) == N_MATCHED and ratio[nearest[-1]] <= np.log(LIKENESS)
    return _Aim(latent, nearest) if is_alike else None
