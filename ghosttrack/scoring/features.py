"""What detectors read of new answers, beyond what asking again and tracking tell."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ghosttrack.detector.answers.answers import Answers
from ghosttrack.detector.answers.self_checks import UNASKED
from ghosttrack.detector.asking.interventions import Interventions
from ghosttrack.detector.learners.fitted import FittedDetector
from ghosttrack.detector.table import Table
from ghosttrack.detector.tracks.observe import raw_latents
from ghosttrack.detector.tracks.streaming import Stream
from ghosttrack.models.lm import LM
from ghosttrack.models.readings import read_states
from ghosttrack.questions.sets import QuestionSet
from ghosttrack.sae.bank import Bank


class AnswerFeatures(NamedTuple):
    """What detectors read of a batch of answers."""

    questions: QuestionSet
    answers: Answers
    found: Interventions
    template: str
    """The prompt around a question."""
    more: Mapping[str, Table] = MappingProxyType({})
    """Further tables that detectors read."""
    stream: Stream | None = None
    """What is seen at every token, once it is looked at."""

    @property
    def tables(self) -> dict[str, Table]:
        """Of whole answers, named as in an evaluation."""
        seen, at = (self.stream.tables, self.stream.first) if self.stream else ({}, [])
        first = {name: table.take(np.asarray(at)) for name, table in seen.items()}
        return {**first, "output": self.answers.output, **self.found.tables, **self.more}


def further_tables(
    lm: LM,
    detectors: Sequence[FittedDetector],
    answers: Answers,
    template: str,
    layers: Sequence[int],
    bank: Bank | None,
) -> dict[str, Table]:
    """Measure what the detectors' columns name beyond output, interventions and tracks.

    `template` is the prompt around a question, `layers` are the blocks that may be read.
    """
    columns = [column.partition(":") for one in detectors for column in one.columns]
    tables: dict[str, Table] = {}
    for name in UNASKED:
        if any(table == name for table, _, _ in columns):
            made = UNASKED[name][0](lm, answers, template)
            tables |= {} if made is None else {name: made}
    wanted, through = (
        tuple(dict.fromkeys(name for table, _, name in columns if table == kind))
        for kind in ("states", "latents")
    )
    if not (wanted or through):
        return tables
    prompts = [lm.encode(prompt) for prompt in answers.prompts]
    if not through:
        layers = sorted({int(name.split("/")[1]) for name in wanted})
    streams = read_states(lm, prompts, answers.token_ids, layers).streams
    if wanted:
        tables["states"] = states_table(wanted, streams, layers)
    if through and bank is not None:
        acts = raw_latents(bank, streams["prompt_last"])
        places = [map(int, name.split("/")) for name in through]
        values = [acts[layers.index(at)][:, [unit]].toarray()[:, 0] for at, unit in places]
        tables["latents"] = Table(through, np.column_stack(values).astype(np.float64))
    return tables


def states_table(
    names: tuple[str, ...],
    streams: Mapping[str, Float[np.ndarray, "layer answer d_model"]],
    layers: Sequence[int],
) -> Table:
    """Pick units of residual streams, named `<place>/<block>/<unit>`; what is not there is NaN."""
    n_answers = next(iter(streams.values())).shape[1]
    values = np.full((n_answers, len(names)), np.nan)
    for column, name in enumerate(names):
        place, block, unit = name.split("/")
        if place in streams and int(block) in layers and int(unit) < streams[place].shape[2]:
            values[:, column] = streams[place][layers.index(int(block)), :, int(unit)]
    return Table(names, values)
