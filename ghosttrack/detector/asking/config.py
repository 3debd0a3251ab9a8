"""Settings of the interventions."""

import difflib
import pkgutil
from dataclasses import dataclass

from ghosttrack.detector.asking import families
from ghosttrack.errors import ConfigError, check_folder_name


@dataclass
class InterventionsConfig:
    """How the model is asked again (`detector/asking/families/`)."""

    name: str
    copies: dict[str, int | None]
    """Most copies that each family makes of a question; 0, or no entry, leaves the family out,
    null makes as many as the family does by itself."""
    siblings_again: bool
    """The answers to sibling questions are put through paraphrase, swap and owner test as well."""

    def __post_init__(self) -> None:
        check_folder_name("interventions.name", self.name)
        names = [module.name for module in pkgutil.iter_modules(families.__path__)]
        for name, n_copies in self.copies.items():
            setting = f"interventions.copies.{name}"
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                what = f"did you mean {near[0]}?" if near else f"the families: {', '.join(names)}"
                raise ConfigError(f"{setting} is no family of interventions; {what}")
            if n_copies is not None and n_copies < 0:
                raise ConfigError(f"{setting} must be at least 0, got {n_copies}")
