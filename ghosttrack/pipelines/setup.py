"""The model under setup with its corpus and artefacts; loaded only when needed."""

import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ghosttrack.artifacts import read
from ghosttrack.config import ExtractProgram, TrainProgram, resolve_layers
from ghosttrack.data.config import (
    CorpusKind,
    Coverage,
    DatasetText,
    FileText,
    Packing,
    ReadyActivations,
    TextCorpus,
    WorldText,
)
from ghosttrack.errors import ConfigError
from ghosttrack.files import hash_path
from ghosttrack.models.config import Products
from ghosttrack.models.hub import (
    load_tokenizer,
    model_identity,
    model_revision,
    own_sizes,
    sizes,
)
from ghosttrack.models.sizing import Sizes
from ghosttrack.pipelines.model_folders import embedded_folder, world_folder
from ghosttrack.pipelines.stage import Deferred, Outputs, Stage
from ghosttrack.run import Run
from ghosttrack.world.facts import FOLDER, WorldSpec, load_spec
from ghosttrack.world.text import bank_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ghosttrack.data.corpora import CorpusWindows
    from ghosttrack.data.documents import Text
    from ghosttrack.data.forward import Extractor
    from ghosttrack.models.lm import LM

Config = TypeVar("Config", bound=ExtractProgram, covariant=True)
CORPUS_SCHEMA = 1
"""Version of the files of a tokenised corpus."""

log = logging.getLogger(__name__)


class Setup(Generic[Config]):
    """What the stages of one run share: its settings, model and text."""

    def __init__(self, config: Config, run: Run) -> None:
        self.config = config
        self.run = run
        root = Path(config.output_root) / config.model.name
        self.outputs = Outputs(root, run, config.verify, self._provenance)

    @cached_property
    def lm(self) -> "LM":
        """The language model; loading it takes seconds to minutes.

        Raises:
            ConfigError: The corpus leaves it nothing to read.
        """
        if not self.config.corpus.is_text:
            raise ConfigError(
                "corpus=activations has no text for a language model: extract.py converts it and"
                " train.py learns from it with train.source=store; choose a corpus of text"
            )
        from ghosttrack.models.load import load_lm

        with self.run.stage("load model"):
            return load_lm(self.config.model, self.embedded, self.config.model.device)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer, for those who do not need its weights."""
        return load_tokenizer(self.config.model, self.embedded)

    @cached_property
    def n_ctx(self) -> int:
        """Tokens that the model can read at once."""
        return own_sizes(self.config.model, self.embedded).n_ctx

    @cached_property
    def embedded(self) -> Path:
        """Where the model lies if the settings name neither folder nor hub: shipped, or made here.

        Raises:
            DataError: It was not made (`made_model.make_model`).
        """
        folder = embedded_folder(self.config.model, self.outputs.root)
        return folder if folder == FOLDER else self.outputs.found(read(folder, "models")).path

    @property
    def world(self) -> WorldSpec:
        """What the model's world derives from.

        Raises:
            DataError: The model has none.
        """
        return load_spec(world_folder(self.config.model, self.embedded))

    @cached_property
    def model_identity(self) -> dict[str, str]:
        """What determines the model's numbers, known without loading it."""
        return model_identity(self.config.model, self.embedded)

    @cached_property
    def layers(self) -> list[int]:
        """Block indices of the hook points, ascending.

        Raises:
            ConfigError: A layer that the model or the ready-made activations do not have.
        """
        if not self.config.corpus.is_text:
            ready = list(self._ready_hooks)
            return resolve_layers(self.config.layers, ready, f"among {ready} of corpus.path")
        n = self.sizes.n_layers
        return resolve_layers(self.config.layers, range(n), f"in 0..{n - 1} for this model")

    @property
    def sizes(self) -> Sizes:
        """Width and depth of the model, without its weights."""
        return sizes(self.config.model, FOLDER)

    @property
    def hooks(self) -> list[str]:
        """Names of the hook points of `layers`, positions included where the corpus has them."""
        if not self.config.corpus.is_text:
            return [hook for layer in self.layers for hook in self._ready_hooks[layer]]
        from ghosttrack.data.store import hook_names

        return hook_names(self.layers)

    @cached_property
    def _ready_hooks(self) -> dict[int, list[str]]:
        from ghosttrack.data.ready import ready_hooks

        return ready_hooks(self.corpus_path)

    @property
    def corpus_path(self) -> Path:
        """Where the corpus lies.

        Raises:
            ConfigError: There is nothing.
        """
        corpus = self.config.corpus
        assert isinstance(corpus, FileText | ReadyActivations), corpus
        return existing("corpus.path", corpus.path)

    @cached_property
    def corpus(self) -> "CorpusWindows":
        """The corpus in context windows, parted into training and held-out text.

        Its token ids are an artefact of their own, which stores and streams share.
        """
        return self.tokens.get()

    @property
    def tokens(self) -> "Stage[CorpusWindows]":
        """The stage of the corpus' token ids."""
        return Stage(
            self.outputs,
            "corpora",
            self.config.corpus.name,
            self._tokens_settings,
            Deferred("ghosttrack.pipelines.setup", "write_tokens", self),
            Deferred("ghosttrack.data.corpora", "read_corpus"),
            title="tokenise",
        )

    @property
    def _tokens_settings(self) -> dict[str, object]:
        return {
            "corpus": self.corpus_identity,
            "tokenizer": self.model_identity["tokenizer"],
            "prepend_bos": self.config.model.prepend_bos,
            "skip_first": self.config.store.skip_first,
            "seed": self.config.seed,
            "schema": CORPUS_SCHEMA,
        }

    @property
    def is_world(self) -> bool:
        """Tell whether the corpus is about the model's generated world."""
        return self.config.corpus.kind is CorpusKind.ghostworld

    @cached_property
    def extractor(self) -> "Extractor":
        """The model, run as the settings say; `extract.batch_size=auto` is found here, once."""
        from ghosttrack.data.forward import Extractor, largest_batch
        from ghosttrack.data.store import torch_dtype

        lm, store, size = self.lm, self.config.store, self.config.extract.batch_size
        dtype = torch_dtype(store.dtype)
        first = 1 if size == "auto" else size
        if store.products is not Products.fp32 and lm.device.type == "cpu":
            log.warning(
                "store.products=%s is for a GPU: this CPU multiplies in fp32, so that its"
                " activations differ from a GPU's by rounding",
                store.products.name,
            )
        extractor = Extractor(lm, self.layers, store.skip_first, dtype, first, store.products)
        if size == "auto":
            corpus = self.config.corpus
            assert isinstance(corpus, TextCorpus), corpus
            extractor = extractor.sized(largest_batch(extractor, corpus.context))
            log.info("extract.batch_size=auto: %d windows fit", extractor.batch_size)
        return extractor

    @cached_property
    def corpus_identity(self) -> dict[str, Any]:
        """What determines the windows, besides the model's tokenizer."""
        corpus = self.config.corpus
        if isinstance(corpus, WorldText):
            content: object = self.world.to_json()
        elif isinstance(corpus, ReadyActivations):
            content = hash_path(self.corpus_path)
        else:
            content = self._text.identity
        identity = {"kind": corpus.kind.name, "content": content}
        if isinstance(corpus, TextCorpus):
            identity |= {
                **{"packing": corpus.packing.name, "context": corpus.context},
                **{"num_tokens": corpus.num_tokens, "heldout_tokens": corpus.heldout_tokens},
            }
        if isinstance(corpus, WorldText) and corpus.coverage is not Coverage.natural:
            identity["coverage"] = corpus.coverage.name
        return identity

    def _provenance(self) -> dict[str, object]:
        """Say which model it was, in the manifests of what is made with it."""
        if not self.config.corpus.is_text:
            return {}
        return {"model_revision": model_revision(self.config.model, self.embedded)}

    def documents(self) -> Iterable[str]:
        """Read the corpus' texts."""
        corpus = self.config.corpus
        if isinstance(corpus, WorldText):
            return bank_text(self.world, corpus.coverage)
        return self._text.documents()

    @cached_property
    def _text(self) -> "Text":
        from ghosttrack.data.documents import TextFiles

        corpus = self.config.corpus
        if isinstance(corpus, DatasetText):
            from ghosttrack.data.huggingface import open_dataset

            return open_dataset(corpus)
        assert isinstance(corpus, FileText), corpus
        return TextFiles(self.corpus_path, corpus.column, corpus.bad_files)


def write_tokens(setup: Setup[ExtractProgram], folder: Path) -> None:
    """Tokenise the corpus and cut it into windows."""
    from ghosttrack.data.corpora import framing, write_corpus

    corpus, store = setup.config.corpus, setup.config.store
    assert isinstance(corpus, TextCorpus), corpus
    framed = framing(setup.lm, append_eos=setup.is_world or corpus.packing is Packing.blocks)
    write_corpus(folder, setup.documents(), framed, corpus, store.skip_first, setup.config.seed)


def existing(setting: str, path: str | None) -> Path:
    """Find what a setting names.

    Raises:
        ConfigError: There is nothing.
    """
    if path is None or not Path(path).exists():
        raise ConfigError(f"{setting}={path}: no such file or folder")
    return Path(path)


def check_logger(config: TrainProgram) -> None:
    """Fail before the expensive stages if the logger cannot work.

    Raises:
        ConfigError: W&B is to be online, but there is no key or no server.
    """
    if config.names_wandb and not config.logger["offline"]:
        from ghosttrack.wandb_client import check_online, is_switched_off

        if not is_switched_off():
            check_online()
