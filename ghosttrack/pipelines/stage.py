"""Artefacts as stages of a program: each knows what it is made from, and makes it when asked."""

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

from ghosttrack.artifacts import Artifact, Key, artifact_id, build, is_complete, read
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.fingerprint import hashed
from ghosttrack.run import Run

Content = TypeVar("Content", covariant=True)
PROGRAMS = {
    "activations": ("extract", "activation store", "extracting"),
    "saes": ("train", "SAE bank", "training"),
}
"""Kind of artefact to the program whose work it is, its name, and what is done to get it."""

log = logging.getLogger(__name__)


class Deferred:
    """A function of the product with its first arguments; what it imports waits for its call.

    So a program that finds everything done imports neither torch nor transformers.

    Args:
        args: What it is called with before the folder.
    """

    def __init__(self, module: str, name: str, *args: object) -> None:
        self.module, self.name, self.args = module, name, args

    def __call__(self, folder: Path) -> Any:  # noqa: ANN401 - what the function returns
        """Import it, and call it."""
        function = attrgetter(self.name)(import_module(self.module))
        return function(*self.args, folder)

    @property
    def code(self) -> str:
        """Hash of what it does."""
        return hashed(self.module, self.name)


@dataclass(frozen=True)
class Outputs:
    """Where a run puts what its stages make, under the folder of one model."""

    root: Path
    run: Run
    verify: bool
    """Compare the checksums of what is found."""
    provenance: Callable[[], Mapping[str, object]] = dict
    """What manifests say beside the identity."""

    def build(
        self, key: Key, write: Callable[[Path], None], *, distributed: bool = False
    ) -> Artifact:
        """Find or build an artefact, and link it from the run."""
        provenance = self.provenance()
        return self.found(build(key, write, provenance=provenance, distributed=distributed))

    def found(self, artifact: Artifact) -> Artifact:
        """Link an artefact from the run, and compare its checksums where that is asked for."""
        if self.verify and not artifact.built:
            read(artifact.path, verify=True)
        self.run.keep(artifact)
        return artifact


@dataclass(frozen=True)
class Stage(Generic[Content]):
    """An artefact of one run, made or not.

    Attributes:
        outputs: Where it lies.
        kind: One of `artifacts.KINDS`.
        name: Of its folder, for people.
        settings: JSON values that determine it, the ids of the stages that it is made from among
            them, and the version of its layout.
        write: Fills the folder that it is given, from the stages that it is made from.
        load: Reads what it gives.
        title: What its time is written under; empty: that of whoever asks.
        distributed: Every rank writes its share.
    """

    outputs: Outputs
    kind: str
    name: str
    settings: Mapping[str, object]
    write: Deferred
    load: Callable[[Path], Content]
    title: str = ""
    distributed: bool = False

    @cached_property
    def identity(self) -> dict[str, object]:
        """What determines its bytes: its settings, and the code that writes it."""
        return {**self.settings, "code": self.write.code}

    @property
    def id(self) -> str:
        """Hash of its identity."""
        return artifact_id(self.identity)

    @property
    def key(self) -> Key:
        """What it is found by."""
        return Key(self.outputs.root, self.kind, self.name, self.identity)

    @property
    def exists(self) -> bool:
        """Tell whether it is complete."""
        return is_complete(self.key.folder)

    def make(self) -> Artifact:
        """Find it, or make it with all that is missing upstream; once."""
        return self._artifact

    def get(self) -> Content:
        """Return what it holds, made with all that is missing upstream; read once."""
        return self._content

    @cached_property
    def _artifact(self) -> Artifact:
        with self.outputs.run.stage(self.title) if self.title else nullcontext():
            return self.outputs.build(self.key, self.write, distributed=self.distributed)

    @cached_property
    def _content(self) -> Content:
        return self.load(self.make().path)

    def announce(self, *, auto: bool) -> None:
        """Say that what another program makes is missing and will be built.

        Raises:
            ConfigError: It is missing and `auto` is off.
        """
        if self.exists:
            return
        program, what, doing = PROGRAMS[self.kind]
        if not auto:
            raise ConfigError(
                f"auto=false and there is no {what} for this configuration; run"
                f" `python {program}.py` with the same settings, or set auto=true"
            )
        log.info("no %s for this configuration yet: %s it", what, doing)
