"""Settings of corpora and the activation store."""

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from ghosttrack.errors import ConfigError, check_folder_name


class CorpusKind(Enum):
    """Where unlabelled text, or what a model made of it, comes from."""

    ghostworld = "ghostworld"
    text = "text"
    huggingface = "huggingface"
    activations = "activations"


class Coverage(Enum):
    """Of whom the text of a generated world speaks that a bank learns from."""

    natural = "natural"
    """Of each entity as often as the language model read of it."""
    balanced = "balanced"
    """As often of each, also of those of whom the language model read nothing."""
    held_out = "held_out"
    """As often of each of one half of the entities, and not of the others."""


class Packing(Enum):
    """How documents share context windows."""

    documents = "documents"
    blocks = "blocks"


class BadFiles(Enum):
    """What becomes of a file of text that cannot be read through."""

    refuse = "refuse"
    skip = "skip"


class StoreDtype(Enum):
    """Number format in which activations rest on disk."""

    bf16 = "bfloat16"
    fp16 = "float16"
    fp32 = "float32"
    int8 = "int8"


NUMBERS = {"context", "num_tokens", "heldout_tokens"}
REQUIRED = {
    CorpusKind.ghostworld: NUMBERS | {"packing", "coverage"},
    CorpusKind.text: NUMBERS | {"packing", "path", "column", "bad_files"},
    CorpusKind.huggingface: NUMBERS | {"packing", "path", "column", "split"},
    CorpusKind.activations: {"path"},
}
"""Settings of a corpus that each kind reads and cannot do without."""
OPTIONAL = {CorpusKind.huggingface: {"subset", "revision"}}


@dataclass
class CorpusConfig:
    """What SAEs learn from: text that the model reads, or ready-made activations.

    What a kind does not read is null.
    """

    kind: CorpusKind
    name: str
    path: str | None
    """File or folder of text (`data/documents.py`) or of activations (`data/ready.py`), or a
    dataset (`data/huggingface.py`)."""
    column: str | None
    """Field of .jsonl, column of .parquet or of a dataset, that holds the text."""
    bad_files: BadFiles | None
    """A file that is not UTF-8, holds no text or is not what its suffix says ends the program
    (`refuse`), or is read up to there with a warning (`skip`)."""
    subset: str | None
    """Part of a dataset on the hub; null where it has but one."""
    split: str | None
    """Of a dataset; a folder with one dataset is taken whole."""
    revision: str | None
    """Commit, branch or tag of a dataset on the hub; null is its newest."""
    coverage: Coverage | None
    """Whose facts are stated, and how often."""
    context: int | None
    """Tokens per context window; longer documents are cut into windows."""
    packing: Packing | None
    """`documents`: a window holds one document, which reads nothing else. `blocks`: documents
    follow one another, each ended by EOS, in windows that are full, as most models were trained."""
    num_tokens: int | None
    """Tokens to train on, positions dropped by `store.skip_first` not counted."""
    heldout_tokens: int | None
    """Tokens of further documents kept apart for metrics; fewer where the corpus is too short."""

    def __post_init__(self) -> None:
        check_folder_name("corpus.name", self.name)
        read = REQUIRED[self.kind] | OPTIONAL.get(self.kind, set())
        for field in sorted({field.name for field in fields(self)} - read - {"kind", "name"}):
            if getattr(self, field) is not None:
                raise ConfigError(
                    f"corpus.{field} is nothing to corpus={self.kind.name}; leave it null"
                )
        for field in sorted(REQUIRED[self.kind]):
            value = getattr(self, field)
            if field in NUMBERS and (value is None or value < 1):
                raise ConfigError(f"corpus.{field} must be at least 1, got {value}")
            if value is None:
                raise ConfigError(f"corpus.{field} is required; set corpus.{field}=...")


@dataclass
class StoreConfig:
    """How activations rest on disk."""

    dtype: StoreDtype
    skip_first: int
    """Leading positions of every window of text that are not kept (GPT-2's 0 has a huge norm)."""
    shard_tokens: int
    """Tokens per shard; extraction resumes at the last complete one."""

    def __post_init__(self) -> None:
        if self.skip_first < 0:
            raise ConfigError(f"store.skip_first must be at least 0, got {self.skip_first}")
        if self.shard_tokens < 1:
            raise ConfigError(f"store.shard_tokens must be at least 1, got {self.shard_tokens}")


@dataclass
class ExtractConfig:
    """How the language model is run over the corpus."""

    batch_size: Any
    """Windows per forward pass, or `auto`: the most that fit. Changes speed and memory, not
    results. OmegaConf has no union of the two."""
    devices: int
    """Processes that extract a store together, one per GPU (or share of the CPU's cores); started
    here unless torchrun or srun has."""

    def __post_init__(self) -> None:
        if self.batch_size != "auto" and (type(self.batch_size) is not int or self.batch_size < 1):
            raise ConfigError(
                f"extract.batch_size must be auto or at least 1, got {self.batch_size}"
            )
        if self.devices < 1:
            raise ConfigError(f"extract.devices must be at least 1, got {self.devices}")
