"""A little of a bank's training and measuring, on real activations and the real device."""

import math
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

from ghosttrack.config import TrainProgram
from ghosttrack.data.config import CorpusKind
from ghosttrack.data.source import PartSource
from ghosttrack.data.store import ActivationStore, torch_dtype
from ghosttrack.data.store_read import CHUNK_BYTES, StoreSource
from ghosttrack.pipelines.estimate.costs import Cost, Measured, cost, measure, timed
from ghosttrack.pipelines.estimate.text import Probes
from ghosttrack.pipelines.extract import activations, store_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.sources import stream_source
from ghosttrack.pipelines.stage import Stage
from ghosttrack.pipelines.train import (
    FIDELITY_TOKENS,
    SAMPLE_TOKENS,
    trained_stage,
)
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import Source
from ghosttrack.sae.evaluate import evaluate
from ghosttrack.sae.fidelity import fidelity
from ghosttrack.sae.init import initialise
from ghosttrack.sae.lit import LitBank
from ghosttrack.sae.metrics import HookMetrics
from ghosttrack.training.layers import share
from ghosttrack.training.plan import STATE_BYTES, Plan, bank_bytes
from ghosttrack.training.resume import BankCheckpoints, ResumePoints
from ghosttrack.training.trainer import make_trainer, training_plan

STEP_S = 3.0
"""Seconds of training steps that are enough."""
LEAST_STEPS, MOST_STEPS = 3, 20
"""Of which the first is not counted: it also compiles kernels."""
PRODUCTS = 10**10
"""Multiplications of a layer of the bank in a step, over all hook points that are measured. On a
CPU hook points pass through a step one after the other: a few stand for all."""
FREE_FRAC = 0.8
"""Share of a GPU's free memory that those which are measured may take."""
HELDOUT_BATCHES = 4
"""Batches that are reconstructed."""
REPLACED_TOKENS = 512
"""Tokens on which reconstructions stand in for the residual stream; a window is read whole."""


class Steps(NamedTuple):
    """Some hook points' training."""

    n: int
    each: float
    """Seconds."""
    once: float
    """Seconds before the first step, and what it takes longer than others."""
    point_seconds: float
    """To write a resume point."""
    point_bytes: int


class BankProbes:
    """Short runs of a bank's training and measuring.

    Args:
        probes: Of the activations that it learns from.
        setup: How it is trained.
    """

    def __init__(self, probes: Probes, setup: Setup[TrainProgram]) -> None:
        self.probes, self.setup, self.config = probes, setup, setup.config

    @cached_property
    def trainer(self) -> pl.Trainer:
        """The real one; it trains nothing here."""
        folder = self.probes.folder
        points = ResumePoints(folder, self.config.train.checkpoint_every)
        return make_trainer(self.config, [CSVLogger(folder)], points)

    @property
    def device(self) -> torch.device:
        """Where the bank is trained."""
        return self.trainer.strategy.root_device

    @cached_property
    def hooks(self) -> list[str]:
        """Those of one rank."""
        return share(self.trainer, self.probes.setup.hooks).hooks

    @cached_property
    def plan(self) -> Plan:
        """One rank's training."""
        return training_plan(self.trainer, self.config, len(self.hooks), self.source.d_model)

    @cached_property
    def source(self) -> PartSource:
        """Activations of all hook points: those that there are, or the probe's."""
        probes, config = self.probes, self.config
        if config.train.source is Source.stream:
            return stream_source(probes.small, config.train.buffer_tokens)
        whole = store_stage(self.setup)
        store = whole.key.folder if whole.exists else activations(probes.small).path
        return StoreSource(ActivationStore(store))

    @cached_property
    def sample(self) -> Float[Tensor, "hook token d_model"]:
        """Activations that banks begin from."""
        return self.source.sample(SAMPLE_TOKENS).cpu()

    @cached_property
    def n_probed(self) -> int:
        """Hook points that stand for all."""
        one = self.plan._replace(n_hooks=1, n_together=1)
        if self.device.type == "cpu":
            n = PRODUCTS // (one.d_model * one.d_sae * one.n_rows)
        else:
            free = FREE_FRAC * torch.cuda.mem_get_info(self.device)[0]
            n = int(free) // (one.state_bytes + one.step_bytes)
        return min(max(n, 1), len(self.hooks))

    @property
    def scale(self) -> float:
        """Hook points of this rank, for each that is measured."""
        return len(self.hooks) / self.n_probed

    @cached_property
    def probed(self) -> Bank:
        """Some of the hook points, spread over all, as training begins."""
        at = np.linspace(0, len(self.hooks) - 1, self.n_probed).astype(int).tolist()
        return self._bank([self.hooks[place] for place in at])

    def _bank(self, hooks: list[str]) -> Bank:
        sae = self.config.sae
        bank = Bank(hooks, self.source.d_model, sae.d_sae, sae.k, sae.architecture)
        rows = [self.source.hooks.index(hook) for hook in hooks]
        initialise(bank, self.sample[rows], self.config.sae.seed)
        return bank

    @cached_property
    def batch(self) -> Float[Tensor, "hook batch d_model"]:
        """A batch of the real size and number format, of the hook points that are measured."""
        rows = torch.arange(self.plan.n_rows) % self.sample.shape[1]
        at = [self.source.hooks.index(hook) for hook in self.probed.hooks]
        x = self.sample[at][:, rows]
        return x.to(self.device, torch_dtype(self.config.store.dtype))

    def train(self) -> Cost:
        """Take some steps and write a resume point."""
        with measure() as took:
            steps = self._steps()
        n_steps, sae = self.trainer.max_steps, self.config.sae
        n_points = math.ceil(n_steps / self.config.train.checkpoint_every)
        seconds = steps.once + n_steps * steps.each + n_points * steps.point_seconds
        how = f"{steps.n} of {n_steps:,} steps"
        if self.n_probed < len(self.hooks):
            how += f" of {self.n_probed} of {len(self.hooks)} hook points"
        seconds, n_ranks = seconds * self.scale, self.trainer.world_size
        if self.config.train.source is Source.stream:
            seconds += self.probes.read_seconds(n_steps * sae.batch_size) / n_ranks
            how += ", the model beside them"
        n_hooks = len(self.probes.setup.hooks)
        return Cost(
            "train",
            how + (f", on one of {n_ranks} ranks" if n_ranks > 1 else ""),
            seconds,
            *self._memory(took),
            bank_bytes(n_hooks, self.plan.d_model, sae.d_sae, sae.architecture),
            # a resume point goes only when the next one is written
            2 * steps.point_bytes * n_hooks // self.n_probed,
        )

    def _steps(self) -> Steps:
        with timed() as begin:
            bank = self.probed.to(self.device)
        lit = LitBank(bank, self.config.sae, self.trainer.max_steps, reduce=False).to(self.device)
        adam = lit.configure_optimizers()["optimizer"]
        seconds: list[float] = []
        while len(seconds) < LEAST_STEPS or (
            sum(seconds[1:]) < STEP_S and len(seconds) < MOST_STEPS
        ):
            with timed() as took:
                adam.zero_grad()
                with self.trainer.precision_plugin.train_step_context():
                    loss = lit.loss(bank, self.batch).loss
                loss.backward()
                adam.step()
            seconds.append(took.seconds)
        state = {"state_dict": lit.state_dict(), "optimizer_states": [adam.state_dict()]}
        path = self.probes.folder / "point.ckpt"
        with timed() as saved:
            BankCheckpoints(bank.hooks).save_checkpoint(state, path)
        each = float(np.mean(seconds[1:]))
        once = begin.seconds + max(seconds[0] - each, 0.0)
        return Steps(len(seconds) - 1, each, once, saved.seconds, path.stat().st_size)

    def _memory(self, took: Measured) -> tuple[int, int]:
        """Add what the whole bank and the tokens at hand take beyond those of the probe."""
        rest = int(STATE_BYTES * self.plan.n_parameters * (1 - 1 / self.scale))
        is_stream = self.config.train.source is Source.stream
        itemsize = torch_dtype(self.config.store.dtype).itemsize
        row_bytes = len(self.hooks) * self.plan.d_model * itemsize
        at_hand = self.probes.tokens.train * row_bytes  # a small store is mapped whole
        if is_stream:
            at_hand = min(at_hand, self.config.train.buffer_tokens * row_bytes)
        elif at_hand > CHUNK_BYTES:
            at_hand = 2 * CHUNK_BYTES  # one is handed out while the next one is read
        buffer_on_gpu = is_stream and self.probes.setup.lm.device.type == "cuda"
        bank_on_gpu = self.device.type == "cuda"
        host = took.host_bytes + (not bank_on_gpu) * rest + (not buffer_on_gpu) * at_hand
        gpu = took.gpu_bytes + bank_on_gpu * rest + buffer_on_gpu * at_hand
        return host, gpu

    def measure(self) -> Cost:
        """Reconstruct held-out tokens, and let the model go on from some reconstructions."""
        bank, heldout = self.probed, self.probes.tokens.heldout
        with measure() as took:
            evaluate(bank, [self.batch], self.device, reduce=False)  # warms up
            n_batches = min(math.ceil(heldout / self.batch.shape[1]), HELDOUT_BATCHES)
            with timed() as plain:
                evaluate(bank, [self.batch] * n_batches, self.device, reduce=False)
            n_tokens = n_batches * self.batch.shape[1]
            seconds = plain.seconds * heldout / (n_tokens * self.trainer.world_size)
            how = f"{n_tokens:,} of {heldout:,} tokens"
            if self.config.corpus.kind is not CorpusKind.activations:
                n_tokens, replaced = self._fidelity(bank)
                all_tokens = min(FIDELITY_TOKENS, heldout)
                seconds += replaced * all_tokens / n_tokens
                how += f", predictions after {n_tokens:,} of {all_tokens:,}"
        return cost("measure", how, took, seconds * self.scale)

    def _fidelity(self, bank: Bank) -> tuple[int, float]:
        """Return on how many tokens predictions were looked at, and the seconds that took."""
        setup = self.probes.small
        windows, skip_first = (
            setup.corpus.heldout.first(REPLACED_TOKENS),
            setup.config.store.skip_first,
        )
        with timed() as took:
            fidelity(setup.lm, bank, windows, skip_first, setup.extractor.batch_size)
        return int((windows.lengths - skip_first).sum()), took.seconds

    def saved(self) -> Stage[Bank]:
        """Return the trained bank, or in its place one as training begins."""
        trained = trained_stage(self.setup)
        if trained.exists:
            return trained
        outputs, seed = self.probes.small.outputs, {"seed": self.config.sae.seed}
        return Stage(outputs, "saes", "untrained", seed, partial(write_untrained, self), Bank.load)

    def untrained(self) -> tuple[Bank, list[HookMetrics]]:
        """A bank as training begins, and its numbers on a batch."""
        bank = self._bank(self.setup.hooks)
        rows = evaluate(bank, [self.sample[:, : self.plan.n_rows]], "cpu", reduce=False)
        return bank, rows


def write_untrained(probes: BankProbes, folder: Path) -> None:
    """Save a bank as training begins."""
    bank, rows = probes.untrained()
    bank.save(folder, rows)
