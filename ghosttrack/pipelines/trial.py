"""A program's own stages, run small: what each takes is measured, and scaled to the whole.

Bytes are counted; times are measured on little text, a few steps and a few questions, in a folder
that is thrown away, and scaled with what is left out.
"""

import csv
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from pytorch_lightning.loggers import CSVLogger

from ghosttrack.config import ExtractProgram, TrainProgram
from ghosttrack.data.config import TextCorpus
from ghosttrack.data.store import ActivationStore, disk_bytes
from ghosttrack.data.windows import TOKEN_BYTES
from ghosttrack.detect_config import DetectProgram
from ghosttrack.detector.tracks.causal import N_MATCHED
from ghosttrack.errors import DataError
from ghosttrack.memory import peak_bytes
from ghosttrack.pipelines.detect import CHECKS, FIT, READ, TRY, Detection
from ghosttrack.pipelines.extract import activations
from ghosttrack.pipelines.instruments import TEXT_TOKENS
from ghosttrack.pipelines.setup import Setup
from ghosttrack.pipelines.stage import Stage
from ghosttrack.pipelines.tracks import CAUSAL_TOKENS, CAUSAL_WINDOWS
from ghosttrack.pipelines.train import trained_stage
from ghosttrack.pipelines.train_bank import FIDELITY_TOKENS
from ghosttrack.report.costs import Cost, extrapolate
from ghosttrack.run import Run
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import Source
from ghosttrack.training.resume import ResumePoints
from ghosttrack.training.strategies import LayersStrategy
from ghosttrack.training.trainer import TrainingBudget, bank_bytes, make_trainer

OPERATIONS = 2 * 10**11
"""Multiplications that a stage of the small run may take on a CPU; on a GPU `GPU` times as many."""
GPU = 1000
MOST_TRIED, LEAST_HELDOUT, LEAST_STEPS, MOST_STEPS = 2**15, 64, 2, 20
"""Of the small run; the second half of its steps is timed, as the first compiles kernels."""
CORPUS_TOKENS = 2**20
"""Tokens up to which a corpus is tokenised whole: it may be shorter than what is asked for."""
LEAST_QUESTIONS, MOST_QUESTIONS = 8, 96
"""A stage is timed with so many questions and with a fourth of them, and continued along the line;
an eighth come first, which warm up."""
QUESTION_TOKENS = 3000
"""Tokens that the model reads for a question, over all that is asked of it."""
PASSES = CAUSAL_TOKENS * (N_MATCHED + 1)
"""Tokens that the model reads for the links of a window: each ablation passes one block of it."""
FOLDS = 2
"""Outer folds of the small run's evaluation."""
JUDGED = "evaluate, report"
UNJUDGED = (
    "not measured: of {} questions too few are right, or wrong; hangs on how many there are and on"
    " the rows of evaluation.compare, not on the model"
)


class Tokens(NamedTuple):
    """How long a corpus is, in tokens that are kept."""

    train: int
    heldout: int

    @property
    def total(self) -> int:
        """Both parts."""
        return self.train + self.heldout


def detection_phases(stages: Detection) -> dict[str, Stage[Any]]:
    """List the stages of detection that there are, by what their times are written under."""
    found = {
        "answer": stages.answers,
        "ask again": stages.again,
        CHECKS: stages.checks,
        READ: stages.states,
        "track": stages.tracks,
        JUDGED: stages.evaluation,
    }
    return {phase: stage for phase, stage in found.items() if stage is not None}


@dataclass
class MeasuredRun(Run):
    """Keeps the process's peak of memory at each stage's end, on the host and on the GPU."""

    peaks: dict[str, tuple[int, int]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage."""
        started = time.monotonic()
        yield
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        self.seconds[name] = time.monotonic() - started
        self.peaks[name] = peak_bytes(), gpu


class SmallRun:
    """A program's stages on one device, in a folder that is thrown away.

    Args:
        missing: Phases that there are no artefacts of.
    """

    def __init__(
        self, setup: Setup[ExtractProgram], folder: Path, missing: dict[str, bool]
    ) -> None:
        self.setup, self.folder, self.missing = setup, folder, missing
        self.run = MeasuredRun(folder / "run", setup.run.program)
        self.work = OPERATIONS * (GPU if torch.cuda.is_available() else 1)
        self.is_text = setup.config.corpus.is_text
        if not self.is_text:
            stores = folder / setup.outputs.root.name / "activations"
            stores.parent.mkdir(parents=True)
            stores.symlink_to((setup.outputs.root / stores.name).resolve())

    def costs(self) -> list[Cost]:
        """Run what the program runs, and scale what each of its phases took."""
        by_phase = {one.phase: one for one in self._measured()}
        by_phase |= {name: Cost(name, "found") for name, one in self.missing.items() if not one}
        phases = ("load model", "tokenise", *self.missing)
        return [by_phase[name] for name in phases if name in by_phase]

    def _measured(self) -> list[Cost]:
        config = self.setup.config
        if isinstance(config, DetectProgram) and not config.has_bank:
            return [self._loaded(), *self._detection(config, self._setup(config), None)]
        costs, small = self._text(), self._small()
        if self.missing["extract"]:
            costs.append(self._extract(small))
        if isinstance(config, TrainProgram):
            trained = trained_stage(cast("Setup[TrainProgram]", small))
            trained.make()
            costs += self._bank(config, small)
            if isinstance(config, DetectProgram):
                costs += self._detection(config, small, trained)
        return costs

    def _setup(self, config: ExtractProgram) -> Setup[ExtractProgram]:
        """Set up the same model under other settings, in the folder."""
        alone = replace(config.extract, devices=1)
        config = replace(config, output_root=str(self.folder), extract=alone)
        setup = Setup(replace(config, verify=False, auto=True, estimate=False), self.run)
        setup.embedded = self.setup.embedded
        if self.is_text:
            setup.lm = self.setup.lm
        return setup

    def _shortened(self, train: int, heldout: int) -> TextCorpus:
        """Ask for so many tokens of each part of the corpus, at most."""
        corpus = self._text_corpus
        train, heldout = min(train, corpus.num_tokens), min(heldout, corpus.heldout_tokens)
        return replace(corpus, num_tokens=train, heldout_tokens=heldout)

    def _affordable(self, passes: int, least: int) -> int:
        """Count the tokens that the model may read, each so often."""
        return max(least, min(MOST_TRIED, self.work // (passes * self.n_parameters)))

    @property
    def _text_corpus(self) -> TextCorpus:
        corpus = self.setup.config.corpus
        assert isinstance(corpus, TextCorpus), corpus
        return corpus

    @cached_property
    def n_parameters(self) -> int:
        """Of the language model."""
        return sum(one.numel() for one in self.setup.lm.model.parameters())

    @cached_property
    def d_model(self) -> int:
        """Width of the activations."""
        return self.setup.lm.d_model if self.is_text else self._store.d_model

    @cached_property
    def _store(self) -> ActivationStore:
        return ActivationStore(activations(self.setup).path)

    @cached_property
    def tokens(self) -> Tokens:
        """What the corpus has, or what of a long one is asked for."""
        if not self.is_text:
            return Tokens(self._store.n_train, self._store.n_heldout)
        corpus, short = self._text_corpus, self._shortened(CORPUS_TOKENS, CORPUS_TOKENS)
        kept = _kept(self._setup(replace(self.setup.config, corpus=short)))
        if short == corpus or kept.total < CORPUS_TOKENS:
            return kept
        return Tokens(corpus.num_tokens, corpus.heldout_tokens)

    def _text(self) -> list[Cost]:
        """Load the model, and tokenise the corpus or the beginning of a long one."""
        if not self.is_text:
            return [Cost("tokenise", "not needed")]
        costs, all_tokens = [self._loaded()], self.tokens.total
        if self.setup.tokens.exists or not (self.missing["extract"] or self.missing.get("track")):
            return [*costs, Cost("tokenise", "found" if self.setup.tokens.exists else "not needed")]
        n_tokens = min(all_tokens, CORPUS_TOKENS)
        how = f"{n_tokens:,} of {all_tokens:,} tokens"
        scale, n_bytes = all_tokens / n_tokens, TOKEN_BYTES * all_tokens
        return [*costs, self._cost("tokenise", how, scale, n_bytes)]

    def _loaded(self) -> Cost:
        with self.run.stage("load model"):
            how = f"done: {self.n_parameters / 1e6:.1f}M parameters"
        return self._cost("load model", how)

    def _small(self) -> Setup[ExtractProgram]:
        """Make the setup that is run, and tokenise what it reads."""
        config = self.setup.config
        if self.is_text:
            least = 2 * self._text_corpus.context
            if isinstance(config, TrainProgram):
                least = max(least, config.sae.batch_size)
            # held-out text is predicted after each hook point: reconstructed, and left out
            heldout = self._affordable(2 * len(self.setup.hooks), LEAST_HELDOUT)
            config = replace(config, corpus=self._shortened(self._affordable(1, least), heldout))
        setup = self._setup(self._few_steps(config) if isinstance(config, TrainProgram) else config)
        if self.is_text:
            _kept(setup)
        return setup

    def _few_steps(self, config: TrainProgram) -> TrainProgram:
        """Train one rank's part of the bank for some steps, on one device."""
        points, n_hooks = ResumePoints(self.folder, 1), len(self.setup.hooks)
        trainer = make_trainer(config, [CSVLogger(self.folder)], points, n_hooks)
        self.n_ranks, layers, sae = trainer.world_size, self.setup.layers, config.sae
        self.is_split = self.is_text and isinstance(trainer.strategy, LayersStrategy)
        if self.is_split:  # as deep a part of the model reads all, as all of it reads a part
            layers = layers[: math.ceil(len(layers) / self.n_ranks)]
        else:
            sae = replace(sae, batch_size=sae.batch_size // self.n_ranks)
        weights = 2 * len(layers) * self.d_model * sae.d_sae
        n_steps = min(max(self.work // (3 * weights * sae.batch_size), LEAST_STEPS), MOST_STEPS)
        buffer_tokens = min(config.train.buffer_tokens, 4 * sae.batch_size)
        return replace(
            config,
            layers=layers,
            sae=sae,
            train=replace(config.train, buffer_tokens=buffer_tokens, checkpoint_every=n_steps),
            trainer={
                **config.trainer,
                **{"devices": 1, "num_nodes": 1, "strategy": "auto"},
                **{"max_steps": n_steps, "log_every_n_steps": n_steps // 2},
            },
            logger={"_target_": "pytorch_lightning.loggers.CSVLogger"},
        )

    def _extract(self, small: Setup[ExtractProgram]) -> Cost:
        """Fill a store."""
        config = self.setup.config
        if isinstance(config, TrainProgram) and config.train.source is Source.stream:
            return Cost("extract", "beside training: no store")
        activations(small)
        few, n_tokens, n_devices = _kept(small).total, self.tokens.total, config.extract.devices
        how = f"{few:,} of {n_tokens:,} tokens read and written"
        how += f", on one of {n_devices} devices" if n_devices > 1 else ""
        n_bytes = disk_bytes(n_tokens, len(self.setup.layers), self.d_model, config.store.dtype)
        return self._cost("extract", how, n_tokens / few / n_devices, n_bytes)

    def _bank(self, config: TrainProgram, small: Setup[ExtractProgram]) -> list[Cost]:
        """Scale the steps that were logged last, and what measuring the bank took."""
        few, sae = cast("TrainProgram", small.config), config.sae
        (file,) = self.folder.glob("run/lightning_logs/*/metrics.csv")
        with file.open(encoding="utf-8", newline="") as lines:
            speeds = [row["tokens_per_s"] for row in csv.DictReader(lines) if row["tokens_per_s"]]
        n_steps, n_hooks, n_ranks = config.trainer["max_steps"], len(self.setup.hooks), self.n_ranks
        self.run.seconds["train"] = n_steps * few.sae.batch_size / float(speeds[-1])
        how = f"{few.trainer['max_steps'] // 2} of {n_steps:,} steps"
        if config.train.source is Source.stream:
            how += ", the model beside them"
        how += f", on one of {n_ranks} ranks" if n_ranks > 1 else ""
        # a rank's share was measured; ranks on a CPU share its cores as well
        at_once = 1 if torch.cuda.is_available() else n_ranks
        size = bank_bytes(n_hooks, self.d_model, sae.d_sae, sae.architecture)
        points = 2 * TrainingBudget(n_hooks, self.d_model, sae.d_sae).point_bytes
        costs = [self._cost("train", how, at_once, size)._replace(passing_bytes=points)]
        heldout, part = self.tokens.heldout, _kept(small).heldout if self.is_text else 0
        part = part or heldout
        seconds = self.run.seconds["measure"] * heldout / part
        seconds *= at_once if self.is_split else at_once / n_ranks
        how = f"{part:,} of {heldout:,} tokens"
        if self.is_text:
            whole, read = (min(FIDELITY_TOKENS, n) for n in (heldout, part))
            seconds += self.run.seconds["fidelity"] * n_hooks / len(few.layers) * whole / read
            how += f", predictions after {read:,} of {whole:,}"
        self.run.seconds["measure"] = seconds
        return [*costs, self._cost("measure", how)]

    def _detection(
        self, config: DetectProgram, small: Setup[ExtractProgram], trained: Stage[Bank] | None
    ) -> list[Cost]:
        """Put few questions and more, and continue what each stage took along the line."""
        stages = Detection(cast("Setup[DetectProgram]", self.setup))
        n = len(stages.questions.questions)
        most = max(LEAST_QUESTIONS, self.work // (self.n_parameters * QUESTION_TOKENS))
        most = min(n, MOST_QUESTIONS, most)
        numbers = [few for few in (most // 8, most // 4, most) if few]
        if trained is not None:
            small = self._setup(replace(small.config, corpus=self._tracked_text()))
        asked = {
            number: self._ask(config, small, trained, number, is_judged=number > numbers[0])
            for number in numbers
        }
        asked.pop(numbers[0])  # warmed up
        costs = []
        for phase in detection_phases(stages):
            took = {number: one[phase] for number, one in asked.items() if phase in one}
            if not took:
                costs.append(Cost(phase, UNJUDGED.format(most), math.nan))
                continue
            seconds, n_bytes = (
                extrapolate([(number, one[at]) for number, one in took.items()], n) for at in (0, 1)
            )
            if phase == "track":
                seconds += self._of_text(small)
            how = f"{' and '.join(map(str, took))} of {n:,} questions"
            peaks = self.run.peaks["evaluate" if phase == JUDGED else phase]
            costs.append(Cost(phase, how, seconds, *peaks, round(n_bytes)))
        return costs

    def _tracked_text(self) -> TextCorpus:
        """Take as much text for tracking as there is time for: links are tried many times each."""
        context = self._text_corpus.context
        windows = self._affordable(PASSES, 1)
        return self._shortened(min(TEXT_TOKENS, self._affordable(1, context)), windows * context)

    def _of_text(self, few: Setup[ExtractProgram]) -> float:
        """Scale the seconds that tracking takes for text, whatever is asked."""
        read, whole, windows = _kept(few), self.tokens, len(few.corpus.heldout.lengths)
        text = min(TEXT_TOKENS, whole.train) / min(TEXT_TOKENS, read.train)
        tried = min(CAUSAL_WINDOWS, windows * whole.heldout / read.heldout)
        seconds = self.run.seconds
        return seconds[FIT] * text + seconds[TRY] * tried / min(CAUSAL_WINDOWS, windows)

    def _ask(
        self,
        config: DetectProgram,
        small: Setup[ExtractProgram],
        trained: Stage[Bank] | None,
        n: int,
        *,
        is_judged: bool,
    ) -> dict[str, tuple[float, int]]:
        """Return the seconds and the bytes of each stage on some questions."""
        judging, seconds = config.evaluation, self.run.seconds
        n_bootstrap = max(2, judging.n_bootstrap * FOLDS // judging.n_folds)
        settings = replace(
            cast("DetectProgram", small.config),
            questions=replace(config.questions, num=n),
            evaluation=replace(judging, n_folds=FOLDS, n_bootstrap=n_bootstrap),
        )
        stages = Detection(cast("Setup[DetectProgram]", self._setup(settings)))
        if trained is not None:
            stages.bank = trained
        stages_of, found = detection_phases(stages), {}
        judged = stages_of.pop(JUDGED)
        for name, stage in stages_of.items():
            n_bytes = stage.make().n_bytes
            of_text = seconds[FIT] + seconds[TRY] if name == "track" else 0.0
            found[name] = seconds[name] - of_text, n_bytes
        if not is_judged:
            return found
        with suppress(DataError):  # too few answers of a kind
            n_bytes = judged.make().n_bytes
            fits = seconds["evaluate"] * judging.n_folds / FOLDS
            found[JUDGED] = fits + seconds["fit"] + seconds["report"], n_bytes
        return found

    def _cost(self, phase: str, how: str, scale: float = 1.0, disk_bytes: int = 0) -> Cost:
        return Cost(phase, how, self.run.seconds[phase] * scale, *self.run.peaks[phase], disk_bytes)


def _kept(setup: Setup[ExtractProgram]) -> Tokens:
    """Count the tokens of a setup's corpus, which is tokenised where it was not."""
    return Tokens(*(int(part.kept.sum()) for part in setup.corpus))
