"""A model that tells whether one text follows from another, or contradicts it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ghosttrack.errors import ConfigError
from ghosttrack.files import sha256_file
from ghosttrack.models.config import ModelSource
from ghosttrack.models.hub import model_folder, quiet, weight_files

KINDS = ("entail", "neutral", "contradict")
"""How the labels of such a model begin; columns of its probabilities."""
BATCH = 64


def entailment_folder(name: str) -> Path:
    """Return the folder that a hub id or a path names, downloading it if need be.

    Raises:
        ConfigError: It cannot be had.
    """
    try:
        return model_folder(ModelSource(name, None, None, trust_remote_code=False), Path(name))
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.path", "asking.entailment")) from error


def entailment_identity(name: str) -> dict[str, str]:
    """Hash what determines the model's numbers."""
    folder = entailment_folder(name)
    return {
        file.name: sha256_file(file) for file in (folder / "config.json", *weight_files(folder))
    }


class Entailment:
    """Probabilities of `KINDS` for pairs of a premise and a hypothesis.

    Args:
        folder: A sequence classifier whose labels begin like `KINDS`, whatever their order.
        device: Where it runs.

    Raises:
        ConfigError: Its labels are others.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        with quiet():
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForSequenceClassification.from_pretrained(folder)
        self.model = model.eval().to(device)
        labels = {at: str(name).lower() for at, name in self.model.config.id2label.items()}
        found = [[at for at, name in labels.items() if name.startswith(kind)] for kind in KINDS]
        if any(len(one) != 1 for one in found):
            raise ConfigError(
                f"asking.entailment: the labels of {folder} are {', '.join(labels.values())};"
                " those of a model for entailment are entailment, neutral, contradiction"
            )
        self.order = [one[0] for one in found]

    @torch.no_grad()
    def probs(
        self, pairs: Sequence[tuple[str, str]], read: Callable[[int], object] = lambda _: None
    ) -> Float[np.ndarray, "pair kind"]:
        """Judge each premise and hypothesis; `read` is told how many pairs were."""
        found = np.empty((len(pairs), len(KINDS)), dtype=np.float64)
        by_length = sorted(range(len(pairs)), key=lambda at: sum(map(len, pairs[at])))
        for start in range(0, len(pairs), BATCH):
            rows = by_length[start : start + BATCH]
            premises, hypotheses = zip(*(pairs[row] for row in rows), strict=True)
            tokens = self.tokenizer(
                list(premises), list(hypotheses), padding=True, truncation=True, return_tensors="pt"
            )
            logits = self.model(**tokens.to(self.model.device)).logits[:, self.order]
            found[rows] = logits.float().softmax(-1).cpu().numpy()
            read(len(rows))
        return found
