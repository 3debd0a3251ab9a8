"""A little of what comes before training, measured on the device and the disk of the whole."""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from ghosttrack.config import ExtractProgram
from ghosttrack.data.config import TextCorpus
from ghosttrack.data.corpora import CorpusWindows
from ghosttrack.data.store import ActivationStore, disk_bytes
from ghosttrack.pipelines.estimate.costs import (
    Cost,
    Measured,
    Probe,
    cost,
    extrapolate,
    measure,
    timed,
)
from ghosttrack.pipelines.extract import activations, store_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.sources import stream_source

Program = TypeVar("Program", bound=ExtractProgram)
CORPUS_TOKENS = 2**20
"""Tokens up to which a corpus is cut into windows whole; the time of a longer one is scaled."""
READ_S, MOST_READ_S = 4.0, 30.0
"""Seconds for which the model reads; the second even if that is less than two full batches."""
TRIED_S = 0.5
"""Seconds of a pass that tell how fast the model is."""
BATCHES = 2, 4
"""Full batches that it reads, at least and at most."""


class Tokens(NamedTuple):
    """How long the corpus is, in tokens that are kept."""

    train: int
    heldout: int

    @property
    def total(self) -> int:
        """Both parts."""
        return self.train + self.heldout


class Probes:
    """Short runs of a setup's own phases, on less text and in a folder that is thrown away.

    Args:
        setup: What is to be run.
        folder: On the disk that the setup writes to.
    """

    def __init__(self, setup: Setup[ExtractProgram], folder: Path) -> None:
        self.setup = setup
        self.folder = folder
        self.probe = Probe(folder / "run", setup.run.program)

    def load(self) -> Cost:
        """Load the model: what follows needs it, and so does the program."""
        with measure() as took:
            lm = self.setup.lm
        n_parameters = sum(parameter.numel() for parameter in lm.model.parameters())
        return cost("load model", f"done: {n_parameters / 1e6:.1f}M parameters", took)

    def smaller(self, config: Program, probe: Probe) -> Setup[Program]:
        """Make a setup of the same model under other settings, in the probes' folder."""
        alone = replace(config.extract, devices=1)
        config = replace(config, output_root=str(self.folder), verify=False, extract=alone)
        setup = Setup(config, probe)
        setup.embedded = self.setup.embedded
        setup.lm, setup.model_identity = self.setup.lm, self.setup.model_identity
        setup.extractor = self.setup.extractor
        return setup

    @cached_property
    def small(self) -> Setup[ExtractProgram]:
        """The setup on so little text that the model reads it in seconds."""
        corpus = self.setup.config.corpus
        assert isinstance(corpus, TextCorpus), corpus
        n_train = min(self._readable(), corpus.num_tokens)
        n_heldout = min(max(n_train // 4, 1), corpus.heldout_tokens)
        corpus = replace(corpus, num_tokens=n_train, heldout_tokens=n_heldout)
        return self.smaller(replace(self.setup.config, corpus=corpus), self.probe)

    def _readable(self) -> int:
        """Say how many tokens the model reads in the time there is, as some windows of 0s went."""
        lm, corpus = self.setup.lm, self.setup.config.corpus
        assert isinstance(corpus, TextCorpus), corpus
        n_pos, n_windows = min(corpus.context, lm.n_ctx), 1
        batch_size = self.setup.extractor.batch_size
        while True:
            ids = torch.zeros(n_windows, n_pos, dtype=torch.long)
            with timed() as took:
                lm.residuals(ids, torch.ones_like(ids, dtype=torch.bool), self.setup.layers)
            if took.seconds > TRIED_S or n_windows >= batch_size:
                break
            n_windows *= 4
        speed = n_windows / took.seconds
        least, most = (n * batch_size for n in BATCHES)
        n_windows = min(max(int(READ_S * speed), least), most, int(MOST_READ_S * speed))
        return max(1, n_windows) * n_pos

    @cached_property
    def _cut(self) -> tuple[CorpusWindows, float, Measured]:
        """Return the corpus in windows, 1 or the share of it that is cut, and what that took."""
        corpus = self.setup.config.corpus
        assert isinstance(corpus, TextCorpus), corpus
        part = min(1.0, CORPUS_TOKENS / (corpus.num_tokens + corpus.heldout_tokens))
        numbers = [math.ceil(part * n) for n in (corpus.num_tokens, corpus.heldout_tokens)]
        corpus = replace(corpus, num_tokens=numbers[0], heldout_tokens=numbers[1])
        setup = self.smaller(replace(self.setup.config, corpus=corpus), self.probe)
        with measure() as took:
            windows = setup.corpus
        is_whole = _kept(windows).total < sum(numbers)
        return windows, 1.0 if is_whole else part, took

    @property
    def corpus(self) -> CorpusWindows:
        """The corpus, or the beginning of a long one."""
        return self._cut[0]

    @cached_property
    def tokens(self) -> Tokens:
        """What the corpus has, or what of it is asked for."""
        store = store_stage(self.setup)
        if store.exists:
            facts = ActivationStore(store.key.folder)
            return Tokens(facts.n_train, facts.n_heldout)
        windows, part, _ = self._cut
        kept, corpus = _kept(windows), self.setup.config.corpus
        if part == 1:
            return kept
        assert isinstance(corpus, TextCorpus), corpus
        return Tokens(corpus.num_tokens, corpus.heldout_tokens)

    def tokenise(self) -> Cost:
        """Write the corpus' token ids."""
        if self.setup.tokens.exists:
            return Cost("tokenise", "found")
        windows, part, took = self._cut
        n_tokens, total = _kept(windows).total, self.tokens.total
        n_bytes = sum(file.stat().st_size for file in windows.train.folder.iterdir())
        n_bytes = n_bytes * total // n_tokens
        if part == 1:
            return cost("tokenise", f"done: {total:,} tokens", took, disk_bytes=n_bytes)
        small = self.small
        with timed() as little:
            few = _kept(small.corpus).total
        points = [(few, little.seconds), (n_tokens, took.seconds)]
        seconds = extrapolate(points, total)
        return cost("tokenise", f"{n_tokens:,} of {total:,} tokens", took, seconds, n_bytes)

    def extract(self) -> Cost:
        """Read text and write a store, with its checksums."""
        config, total = self.setup.config, self.tokens.total
        self.small.corpus  # noqa: B018 (counted as tokenising)
        store = ActivationStore(activations(self.small).path)
        n_tokens, took = store.n_train + store.n_heldout, self.probe.stages["extract"]
        how, n_devices = (
            f"{n_tokens:,} of {total:,} tokens read and written",
            config.extract.devices,
        )
        return cost(
            "extract",
            how + (f", on one of {n_devices} devices" if n_devices > 1 else ""),
            took,
            took.seconds * total / (n_tokens * n_devices),
            disk_bytes(total, len(self.setup.layers), store.d_model, config.store.dtype),
        )

    def read_seconds(self, n_tokens: int) -> float:
        """Say how long the model reads, where it runs beside training."""
        few = int(self.small.corpus.train.kept.sum())
        with timed() as took:
            stream_source(self.small, few).sample(few)
        return took.seconds * n_tokens / few


def _kept(windows: CorpusWindows) -> Tokens:
    return Tokens(*(int(part.kept.sum()) for part in windows))
