"""A bank learns: from its last resume point, or anew."""

import logging
import shutil
from pathlib import Path
from statistics import fmean

import pytorch_lightning as pl
import torch

from ghosttrack.config import TrainProgram
from ghosttrack.data.datamodule import ActivationsDataModule
from ghosttrack.data.source import ActivationSource
from ghosttrack.errors import ConfigError, Preempted
from ghosttrack.files import LAST
from ghosttrack.pipelines.activations import activation_source
from ghosttrack.pipelines.extract import HELDOUT, heldout_id, store_stage
from ghosttrack.pipelines.setup import Setup
from ghosttrack.sae.bank import Bank, initialise
from ghosttrack.sae.config import Source
from ghosttrack.sae.evaluate import evaluate, fidelity
from ghosttrack.sae.lit import LitBank, gather
from ghosttrack.sae.metrics import HookMetrics
from ghosttrack.training.loggers import close_loggers, kept_log, make_loggers
from ghosttrack.training.resume import BankCheckpoints, ResumePoints, trained
from ghosttrack.training.trainer import (
    TrainingBudget,
    WholeBatches,
    check_gpu,
    check_room,
    curable,
    make_trainer,
    owned,
    share,
    shares,
    training_budget,
)
from ghosttrack.wandb_client import hide_details, log_numbers

CHECKPOINTS = "checkpoints"
"""Folder of the resume points, in that of the bank in the making."""
FIDELITY_TOKENS = 8192
"""Held-out tokens on which cross-entropy recovered and KL are measured."""
FIDELITY_BATCHES = 32
"""At least, where there are as many windows: a large model's first tells the time left soon."""
SAMPLE_TOKENS = 8192
"""First tokens, from which scale, centre and encoder gain are set."""

log = logging.getLogger(__name__)


def write_trained(setup: Setup[TrainProgram], folder: Path) -> None:
    """Train the bank, extracting a store where one is wanted and missing."""
    if setup.config.train.source is Source.store:
        store_stage(setup).announce(auto=setup.config.auto)
    with curable(setup.config.sae), kept_log():
        write_bank(setup, folder)


def write_bank(setup: Setup[TrainProgram], folder: Path) -> None:
    """Train from the last resume point in `folder`, or anew, and save the bank there.

    Every rank comes here; each trains its share, and rank 0 saves the whole.
    """
    config, hooks, points = setup.config, setup.hooks, folder / CHECKPOINTS
    loggers = make_loggers(config, setup.run, "train", folder)
    every, minutes = config.train.checkpoint_every, config.train.checkpoint_minutes
    trainer = make_trainer(config, loggers, ResumePoints(points, every, minutes), len(hooks))
    hide_details(loggers, [f"train/fvu/{hook}" for hook in hooks])
    mine, device = share(trainer, hooks), trainer.strategy.root_device
    is_whole = mine.hooks == hooks
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else the ranks' language models all stream from the first
    source = _opened(trainer, setup, mine.hooks)
    pl.seed_everything(config.sae.seed, workers=True, verbose=False)
    check_room(points, TrainingBudget(len(hooks), source.d_model, config.sae.d_sae))
    bank = _bank(mine.hooks, source, config).to(device)
    initialise(bank, source.sample(SAMPLE_TOKENS), config.sae.seed)
    parts, moved = shares(trainer, hooks), owned(trainer, hooks)
    kept = None if moved is None else moved[trainer.global_rank]
    trainer.strategy.checkpoint_io = BankCheckpoints(mine.hooks, kept)
    lit = LitBank(bank, config.sae, trainer.max_steps, parts, moved)
    feed = ActivationsDataModule if is_whole else WholeBatches
    data = feed(source, config.sae.batch_size, config.sae.seed, trainer.max_steps)
    _fit(trainer, lit, data, points / LAST)
    batches = source.heldout_batches(config.sae.batch_size, mine.rank, mine.world_size)
    with setup.run.stage("measure"):
        rows = evaluate(bank, batches, device, reduce=is_whole)
    if not is_whole:
        rows = [row for rank in gather(rows) for row in rank]
    if not trainer.is_global_zero:
        raise SystemExit(0)  # its part is done
    if not is_whole:
        bank = _bank(hooks, source, config)
        bank.load_state_dict(trained(points / LAST, hooks))
    rows = with_fidelity(rows, bank, setup)
    log_numbers(loggers, _flat(rows), step=trainer.max_steps)
    close_loggers(loggers, config, setup.run, folder)
    facts = {"model_name": config.model.name, "seed": config.sae.seed, HELDOUT: heldout_id(setup)}
    bank.save(folder, rows, facts)
    shutil.rmtree(points)


def _opened(trainer: pl.Trainer, setup: Setup[TrainProgram], mine: list[str]) -> ActivationSource:
    """Open the activations of this rank's hook points, once it is known that they can be used."""
    config, parts, rank = setup.config, shares(trainer, setup.hooks), trainer.global_rank
    if config.corpus.is_text:
        check_gpu(trainer, config, len(mine), setup.sizes.d_model, setup.sizes.n_layers)
    source = activation_source(setup, parts or [setup.hooks], rank if parts else 0)
    _say_budget(trainer, config, mine, source)
    return source


def _bank(hooks: list[str], source: ActivationSource, config: TrainProgram) -> Bank:
    sae = config.sae
    return Bank(hooks, source.d_model, sae.d_sae, sae.k, sae.architecture)


def with_fidelity(
    rows: list[HookMetrics], bank: Bank, setup: Setup[TrainProgram]
) -> list[HookMetrics]:
    """Add what the model's predictions lose by reconstructions, where there is a model."""
    config = setup.config
    if not config.corpus.is_text:
        return rows
    with setup.run.stage("fidelity"):
        windows, skip_first = setup.corpus.heldout.first(FIDELITY_TOKENS), config.store.skip_first
        fits = setup.extractor.batch_size // len(rows)  # a pass for each hook point
        at_once = max(1, min(fits, len(windows.lengths) // FIDELITY_BATCHES))
        found = fidelity(setup.lm, bank, windows, skip_first, at_once)
    return [
        row._replace(ce_recovered=one.ce_recovered, kl=one.kl)
        for row, one in zip(rows, found, strict=True)
    ]


def _say_budget(
    trainer: pl.Trainer, config: TrainProgram, hooks: list[str], source: ActivationSource
) -> None:
    """Say what training takes, before anything is allocated for it.

    Raises:
        ConfigError: There is less to learn from than one batch takes.
    """
    n_distinct = int(source.train.unit_tokens.sum())
    if n_distinct < config.sae.batch_size:
        raise ConfigError(
            f"corpus {config.corpus.name}: {n_distinct:,} activations to train on, fewer than one"
            f" batch of sae.batch_size={config.sae.batch_size:,}; lower it, or give more"
        )
    if trainer.is_global_zero:
        budget = training_budget(trainer, config, len(hooks), source.d_model)
        said = budget.describe(trainer.max_steps, config.sae.batch_size, n_distinct)
        log.info("training: %s", said)


def _fit(trainer: pl.Trainer, lit: LitBank, data: ActivationsDataModule, last: Path) -> None:
    """Train to the last step, and to no other: what is kept is named by it."""
    if last.exists() and trainer.is_global_zero:
        log.info("going on from %s", last.resolve())
    try:
        trainer.fit(lit, data, ckpt_path=last if last.exists() else None)
    except SystemExit as ended:
        if trainer.interrupted:  # Lightning turns Ctrl-C into an exit of its own
            raise KeyboardInterrupt from ended
        raise
    except Preempted as stopped:
        if trainer.is_global_zero:
            raise
        raise SystemExit(0) from stopped  # a failure would have rank 0 killed before it has spoken
    if trainer.global_step < lit.max_steps:
        raise ConfigError(
            f"trainer.max_steps={lit.max_steps}, but another limit of `trainer` ended training at"
            f" step {trainer.global_step}; without it the same command goes on from there"
        )


def _flat(rows: list[HookMetrics]) -> dict[str, float]:
    """Name every held-out number as dashboards group them: `heldout/fvu/layer_3`."""
    means = {
        f"heldout/{name}_mean": fmean(getattr(row, name) for row in rows)
        for name in ("fvu", "explained_variance", "dead_frac", "l0")
    }
    return {
        **means,
        "heldout/fvu_max": max(row.fvu for row in rows),
        **{
            f"heldout/{name}/{row.hook}": value
            for row in rows
            for name, value in row._asdict().items()
            if isinstance(value, float)
        },
    }
