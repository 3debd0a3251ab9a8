"""Settings of corpora and the activation store."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ghosttrack.errors import ConfigError, check_folder_name, check_least
from ghosttrack.models.config import Products


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


@dataclass
class CorpusConfig:
    """What SAEs learn from; a kind adds what it reads."""

    kind: CorpusKind
    name: str

    def __post_init__(self) -> None:
        if type(self) is not CORPORA[self.kind]:
            kind = self.kind.name
            raise ConfigError(f"corpus.kind={kind} goes with corpus={kind}; leave it to that")
        check_folder_name("corpus.name", self.name)

    @property
    def is_text(self) -> bool:
        """Tell whether a model reads it; ready-made activations need none."""
        return self.kind is not CorpusKind.activations


@dataclass
class TextCorpus(CorpusConfig):
    """Text that the model reads."""

    context: int
    """Tokens per context window; longer documents are cut into windows."""
    packing: Packing
    """`documents`: a window holds one document, which reads nothing else. `blocks`: documents
    follow one another, each ended by EOS, in windows that are full, as most models were trained."""
    num_tokens: int
    """Tokens to train on, positions dropped by `store.skip_first` not counted."""
    heldout_tokens: int
    """Tokens of further documents kept apart for metrics; fewer where the corpus is too short."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("corpus", self, context=1, num_tokens=1, heldout_tokens=1)


@dataclass
class WorldText(TextCorpus):
    """Text about a generated world."""

    coverage: Coverage
    """Whose facts are stated, and how often."""


@dataclass
class FileText(TextCorpus):
    """Text in a file or a folder (`data/documents.py`)."""

    path: str
    column: str
    """Field of .jsonl, column of .parquet, that holds the text."""
    bad_files: BadFiles
    """A file that is not UTF-8, holds no text or is not what its suffix says ends the program
    (`refuse`), or is read up to there with a warning (`skip`)."""


@dataclass
class DatasetText(TextCorpus):
    """Text of a Hugging Face dataset (`data/huggingface.py`)."""

    path: str
    """A folder made by save_to_disk, or an id on the hub."""
    column: str
    """The column that holds the text."""
    subset: str | None
    """Part of a dataset on the hub; null where it has but one."""
    split: str
    """Of a dataset; a folder with one dataset is taken whole."""
    revision: str | None
    """Commit, branch or tag of a dataset on the hub; null is its newest."""


@dataclass
class ReadyActivations(CorpusConfig):
    """Activations that others made (`data/ready.py`); no model reads."""

    path: str


CORPORA: Mapping[CorpusKind, type[CorpusConfig]] = {
    CorpusKind.ghostworld: WorldText,
    CorpusKind.text: FileText,
    CorpusKind.huggingface: DatasetText,
    CorpusKind.activations: ReadyActivations,
}
"""What each kind of corpus reads."""


@dataclass
class StoreConfig:
    """How activations rest on disk."""

    dtype: StoreDtype
    skip_first: int
    """Leading positions of every window of text that are not kept (GPT-2's 0 has a huge norm)."""
    shard_tokens: int
    """Tokens per shard; extraction resumes at the last complete one."""
    products: Products
    """Number format in which a GPU multiplies while it makes them: another one, other activations.
    """

    def __post_init__(self) -> None:
        check_least("store", self, skip_first=0, shard_tokens=1)


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
        check_least("extract", self, devices=1)
