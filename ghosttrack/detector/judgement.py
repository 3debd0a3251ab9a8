"""What a fitted detector says of one answer, in the form that programs, pages and callers read."""

from dataclasses import dataclass
from math import isfinite, nan
from typing import NamedTuple

from ghosttrack.detector.learners.explain import Explanation


class TokenRisk(NamedTuple):
    """One token of the answer, judged when it was there and nothing after it."""

    text: str
    prob: float
    """The model's own probability of it."""
    risk: float
    """Calibrated probability that an answer that begins so is hallucinated."""


class Promoter(NamedTuple):
    """A track that argues for a hypothesis."""

    layers: tuple[int, ...]
    """Blocks at which it was seen, ascending."""
    latents: tuple[int, ...]
    """The SAE latent at each."""
    push: float
    """Its attribution to the hypothesis's first token, in logits above the rivals' mean."""


class Hypothesis(NamedTuple):
    """One of the answers that compete."""

    text: str
    prob: float
    """The model's probability of the whole of it."""
    push: float
    """Sum of its promoters' attributions."""
    promoters: tuple[Promoter, ...]
    """The strongest first."""
    is_answer: bool
    """The model gave it."""


class Judge(NamedTuple):
    """Which detector speaks, and how far it can be trusted."""

    name: str
    auroc: float
    """Cross-validated, on answers that it was not fitted on; NaN: not known."""
    low: float
    high: float
    """95 % interval of the AUROC."""
    threshold: float
    prevalence: float
    """Share of hallucinated answers among those that it was fitted on."""


@dataclass(frozen=True)
class Judgement:
    """One answer and what is to be thought of it."""

    prompt: str
    """As the model got it."""
    subject: str
    """Whom the prompt asks about; "" where nobody knows."""
    answer: str
    own_prob: float
    """The model's own probability of the whole answer."""
    probability: float
    """Calibrated probability that the answer is hallucinated."""
    judge: Judge
    streamer: Judge
    """Whose score the tokens have: it sees one pass and needs no more than what was said so far."""
    tokens: tuple[TokenRisk, ...]
    hypotheses: tuple[Hypothesis, ...]
    """By the model's probability."""
    explanation: Explanation
    owner: str
    """The other subject to whom the answer fits best; "" where nobody was asked about."""
    owner_gap: float
    """Own log-probability of the answer minus that subject's, in nats; NaN: not asked."""
    references: tuple[str, ...]
    """Right answers, where they are known."""
    notes: tuple[str, ...]
    """What the reader should know, for example why a better detector could not be used."""
    seconds: float = nan
    """From the prompt to the judgement; of several prompts, each one's share. NaN: not timed."""

    @property
    def is_hallucinated(self) -> bool:
        """Whether the probability passes the threshold that was chosen in advance."""
        return self.probability >= self.judge.threshold

    @property
    def verdict(self) -> str:
        """The same in words."""
        return "probably hallucinated" if self.is_hallucinated else "probably right"

    @property
    def has_owner_test(self) -> bool:
        """Whether other subjects were asked about."""
        return bool(self.owner) and isfinite(self.owner_gap)
