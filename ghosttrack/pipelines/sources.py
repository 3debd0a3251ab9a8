"""Where a stage gets its activations: a store, or the model beside it."""

from ghosttrack.config import ExtractProgram, TrainProgram
from ghosttrack.data.source import ActivationSource
from ghosttrack.data.store import ActivationStore, StoreSource
from ghosttrack.data.stream import StreamSource
from ghosttrack.pipelines.extract import activations
from ghosttrack.pipelines.setup import Setup
from ghosttrack.sae.config import Source


def activation_source(setup: Setup[TrainProgram], hooks: list[str]) -> ActivationSource:
    """Open the activations of some hook points, extracting a store where it is missing."""
    config = setup.config
    if config.train.source is Source.store:
        return StoreSource(ActivationStore(activations(setup).path), hooks)
    return stream_source(setup, config.train.buffer_tokens, hooks)


def stream_source(
    setup: Setup[ExtractProgram], buffer_tokens: int, hooks: list[str] | None = None
) -> StreamSource:
    """Let the model run beside whoever asks for activations, of all hook points or of some."""
    extractor = setup.extractor
    names = zip(setup.layers, setup.hooks, strict=True)
    layers = [layer for layer, name in names if hooks is None or name in hooks]
    return StreamSource(extractor.of(layers), setup.corpus, buffer_tokens)
