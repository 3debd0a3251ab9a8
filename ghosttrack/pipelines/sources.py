"""Where a stage gets its activations: a store, or the model beside it."""

from ghosttrack.config import TrainProgram
from ghosttrack.data.source import PartSource
from ghosttrack.data.store import ActivationStore
from ghosttrack.data.store_read import StoreSource
from ghosttrack.data.stream import StreamSource
from ghosttrack.pipelines.extract import activations
from ghosttrack.pipelines.setup import Study
from ghosttrack.sae.config import Source


def activation_source(study: Study, config: TrainProgram, hooks: list[str]) -> PartSource:
    """Open the activations of some hook points, extracting a store where it is missing."""
    if config.train.source is Source.store:
        return StoreSource(ActivationStore(activations(study).path), hooks)
    return stream_source(study, config.train.buffer_tokens, hooks)


def stream_source(study: Study, buffer_tokens: int, hooks: list[str] | None = None) -> StreamSource:
    """Let the model run beside whoever asks for activations, of all hook points or of some."""
    extractor = study.extractor
    names = zip(study.layers, study.hooks, strict=True)
    layers = [layer for layer, name in names if hooks is None or name in hooks]
    return StreamSource(extractor.of(layers), study.corpus, buffer_tokens)
