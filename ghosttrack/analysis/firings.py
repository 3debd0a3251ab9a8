"""What every latent of a bank fires on in some text, in memory that the text does not fill.

The latents of all hook points stand in one row: latent j of hook point i is i * d_sae + j.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from scipy.sparse import csr_array
from torch import Tensor

from ghosttrack.data.forward import Extractor
from ghosttrack.data.windows import Windows
from ghosttrack.models.lm import LM
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.evaluate import ENCODE_TOKENS
from ghosttrack.sae.hooks import layer_of


class HeldoutText(NamedTuple):
    """Windows whose documents are dealt to two halves: one to choose on, one to measure on."""

    windows: Windows
    skip_first: int
    """Leading positions of every window at which no latent is read."""
    in_second: Bool[np.ndarray, " token"]

    @classmethod
    def of(cls, windows: Windows, skip_first: int, seed: int) -> "HeldoutText":
        """Deal documents at random and whole, so that no half knows what the other repeats."""
        names, document = np.unique(windows.documents, return_inverse=True)
        halves = np.random.default_rng(seed).permutation(len(names)) % 2 == 1
        return cls(windows, skip_first, halves[document])

    @property
    def read(self) -> Int64[np.ndarray, " read"]:
        """Places of the tokens at which latents are read, in their order."""
        starts = np.repeat(self.windows.bounds[:-1], self.windows.lengths)
        return np.flatnonzero(np.arange(len(self.windows.ids)) - starts >= self.skip_first)


class Fired(NamedTuple):
    """Latents that were active, and where."""

    latent: Int64[np.ndarray, " firing"]
    place: Int64[np.ndarray, " firing"]
    """Of the token among those of all windows."""
    value: Float32[np.ndarray, " firing"]

    def of(self, chosen: Int[np.ndarray, " _"] | Bool[np.ndarray, " firing"]) -> "Fired":
        """Take some."""
        return Fired(self.latent[chosen], self.place[chosen], self.value[chosen])


class Tally:
    """Counts of firings, and the strongest of them.

    Args:
        text: Where latents fire.
        n_latents: Of all hook points.
        d_vocab: Tokens that there are.
        n_contexts: Firings kept of each latent, each in a document of its own.

    Attributes:
        activation: Sum of each latent's activations.
        tokens: How often a latent fired on a token, `[latent half*d_vocab+token]`.
        windows: In how many windows each latent fired on tokens of the second half.
        strongest: By latent, of each the strongest first.
    """

    def __init__(self, text: HeldoutText, n_latents: int, d_vocab: int, n_contexts: int) -> None:
        self.text = text
        self.d_vocab = d_vocab
        self.n_contexts = n_contexts
        self.activation = np.zeros(n_latents)
        self.tokens = csr_array((n_latents, 2 * d_vocab), dtype=np.int64)
        self.windows = np.zeros(n_latents, dtype=np.int64)
        none = np.empty(0, dtype=np.int64)
        self.strongest = Fired(none, none, none.astype(np.float32))

    def add(self, fired: Fired) -> None:
        """Count firings; all those of a window come together."""
        n_latents, windows = len(self.activation), self.text.windows
        self.activation += np.bincount(fired.latent, fired.value, n_latents)
        in_second = self.text.in_second[fired.place]
        column = windows.ids[fired.place] + self.d_vocab * in_second
        ones = np.ones(len(column), dtype=np.int64)
        self.tokens += csr_array((ones, (fired.latent, column)), self.tokens.shape)
        window = np.searchsorted(windows.bounds, fired.place[in_second], side="right") - 1
        pairs = np.unique(fired.latent[in_second] * len(windows.lengths) + window)
        self.windows += np.bincount(pairs // len(windows.lengths), minlength=n_latents)
        both = Fired(*map(np.concatenate, zip(self.strongest, fired, strict=True)))
        self.strongest = strongest(both, windows.documents, self.n_contexts)

    def half(self, number: int) -> csr_array:
        """Take firings by latent and token in the first half (0) or the second (1)."""
        return self.tokens[:, number * self.d_vocab : (number + 1) * self.d_vocab]

    def frequency(self, number: int) -> Int64[np.ndarray, " token"]:
        """Count the tokens of a half at which latents are read."""
        read = self.text.read
        own = read[self.text.in_second[read] == (number == 1)]
        return np.bincount(self.text.windows.ids[own], minlength=self.d_vocab)


def strongest(fired: Fired, documents: Int32[np.ndarray, " token"], n: int) -> Fired:
    """Take each latent's `n` strongest firings at most, of every document one at most.

    `documents` are those of every token.
    """
    document = documents[fired.place]
    one_each = np.lexsort((fired.place, -fired.value, document, fired.latent))
    fired = fired.of(one_each[_starts(fired.latent[one_each], document[one_each])])
    fired = fired.of(np.lexsort((fired.place, -fired.value, fired.latent)))
    starts = np.flatnonzero(_starts(fired.latent))
    lengths = np.diff(starts, append=len(fired.latent))
    return fired.of(np.arange(len(fired.latent)) - np.repeat(starts, lengths) < n)


def _starts(*columns: Int[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Tell which rows of a sorted table differ from the one before."""
    differs = np.ones(len(columns[0]), dtype=bool)
    differs[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return differs


@torch.no_grad()
def tally(lm: LM, bank: Bank, text: HeldoutText, batch_size: int, n_contexts: int) -> Tally:
    """Let a model read windows, so many at a time, and count what a bank's latents fire on.

    The bank is moved to the model's device; its hook points are whole layers.
    """
    bank = bank.to(lm.device)
    layers = [layer_of(hook) for hook in bank.hooks]
    found = Tally(text, len(layers) * bank.d_sae, lm.d_vocab, n_contexts)
    extractor = Extractor(lm, layers, text.skip_first, torch.float32, batch_size)
    places, done = text.read, 0
    for resid in extractor.run(text.windows):
        end = done + resid.shape[1]
        found.add(_fired(bank, resid, places[done:end]))
        done = end
    return found


def _fired(
    bank: Bank, resid: Float[Tensor, "hook row d_model"], places: Int64[np.ndarray, " row"]
) -> Fired:
    parts: list[Fired] = []
    for start in range(0, len(places), ENCODE_TOKENS):
        acts = bank.encode(resid[:, start : start + ENCODE_TOKENS])
        active = acts.values.nonzero(as_tuple=True)
        hook, row, _ = active
        latent = hook * bank.d_sae + acts.indices[active]
        value = acts.values[active].float()
        parts.append(
            Fired(latent.cpu().numpy(), places[start + row.cpu().numpy()], value.cpu().numpy())
        )
    return Fired(*map(np.concatenate, zip(*parts, strict=True)))
