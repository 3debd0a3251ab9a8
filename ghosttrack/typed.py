"""A command line as its user means it, put so that Hydra's grammar takes it literally."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ghosttrack.config import uninterpolated
from ghosttrack.data.config import CORPORA
from ghosttrack.detect_config import QUESTIONS, DetectProgram
from ghosttrack.errors import MALFORMED, ConfigError, check_text, first_line

VARIANTS: Mapping[str, Sequence[type]] = {
    "corpus": tuple(CORPORA.values()),
    "questions": tuple(QUESTIONS.values()),
}
"""Groups whose settings hang on what is chosen."""
OLD_NAMES: Mapping[str, str] = {
    "detector.samples": "asking.samples",
    "detector.p_true": "asking.p_true",
    "detector.compare": "evaluation.compare",
    "detector.held_out": "evaluation.held_out",
    "detector.n_folds": "evaluation.n_folds",
    "detector.n_bootstrap": "evaluation.n_bootstrap",
    "detector.seed": "evaluation.seed",
    "detector/interventions": "interventions",
    "detector.interventions.paraphrases": "interventions.copies.paraphrase",
    "detector.interventions.swap_names": "interventions.copies.swap",
    "detector.interventions.owner_names": "interventions.copies.owner",
    "detector.interventions.siblings": "interventions.copies.siblings",
    "detector.interventions.ablate": "interventions.copies.ablate",
    "detector.interventions.noise": "interventions.copies.noise_subject and noise_all",
    "detector.interventions.dropouts": "interventions.copies.dropout",
    "detector.interventions.ghost_names": "interventions.copies.ghosts",
    "detector.interventions.siblings_again": "interventions.siblings_again",
    "sweep=layers_x_positions": "experiment=layers_x_positions",
    "device": "model.device",
    "prompt": 'python -m ghosttrack ask "..."',
    "prompts": "python -m ghosttrack ask --file ...",
    "check": "python -m ghosttrack check ...",
}
"""Settings, or a choice, by the name that they once had, and what does it now."""
ASSIGNMENT = re.compile(r"(\+{0,2}([\w.]+)=)(.*)", re.DOTALL)
MULTIRUN = ("-m", "--multirun")


def check_old_names(arguments: Sequence[str]) -> None:
    """Answer settings of a command line by the name that they once had.

    >>> check_old_names(["detector.top_k=9", "+detector.p_true=x"])
    Traceback (most recent call last):
    ghosttrack.errors.ConfigError: detector.p_true is asking.p_true now

    Raises:
        ConfigError: There is one; says its new name.
    """
    for argument in arguments:
        choice = argument.lstrip("+~")
        for old, new in OLD_NAMES.items():
            if choice == old or choice.split("=")[0] == old:
                raise ConfigError(f"{old} is {new} now")


def literal(arguments: Sequence[str]) -> list[str]:
    """Quote the values of settings that take a text, where Hydra would read them otherwise.

    Left alone are quoted texts, `null`, `${...}` and, with `-m`, lists of values to sweep over
    unless they are the path of a file that is there.

    >>> literal(["sae.k=8", "model.path=/runs/step=10 (v2)", "bank=null", "model.name='a'"])
    ['sae.k=8', "model.path='/runs/step=10 (v2)'", 'bank=null', "model.name='a'"]
    >>> literal(["-m", "model.name=a,b"]), literal(["model.name=a,b"])
    (['-m', 'model.name=a,b'], ["model.name='a,b'"])

    Raises:
        ConfigError: A value has no setting before it, is not text, or no name where one has to be.
    """
    parser = OverridesParser.create()
    is_sweep = any(one in MULTIRUN for one in arguments)
    found = []
    for argument in arguments:
        check_text(argument)
        if argument.startswith("="):
            raise ConfigError(f"{argument}: the name of a setting stands before the =")
        match = ASSIGNMENT.fullmatch(argument)
        if match and match[2] in _texts() and not _is_meant(parser, match[3], is_sweep=is_sweep):
            found.append(match[1] + quote(match[3]))
        else:
            found.append(argument)
    return found


@contextmanager
def composing(arguments: Sequence[str]) -> Iterator[None]:
    """Say in one line what Hydra stumbles over, too, while it puts the settings together.

    Raises:
        ConfigError: They cannot be put together, and Hydra has no words for it.
    """
    try:
        yield
    except (ConfigError, HydraException):
        raise
    except (*MALFORMED, OmegaConfBaseException) as error:
        told = next(filter(None, map(_stumbling_block, arguments)), None)
        said = f"{' '.join(arguments)}: Hydra cannot put this together ({first_line(error)})"
        raise ConfigError(told or said) from error


def _stumbling_block(argument: str) -> str | None:
    """Say of an argument what is likely wrong with it, given that one of them is."""
    name, _, value = argument.lstrip("+~").partition("=")
    if name.startswith("model.world."):
        return f"{name}: this model is not made here; add model=ghostworld-1"
    with suppress(HydraException):
        read = OverridesParser.create().parse_override(f"x={value}")
        if not ("." in name or read.is_sweep_override() or isinstance(read.value(), str)):
            return f"{name}={value}: {name} is chosen by name; --help lists them"
    return None


def _is_meant(parser: OverridesParser, value: str, *, is_sweep: bool) -> bool:
    """Tell whether Hydra reads a value as a text, or as what is no text on purpose."""
    try:
        parsed = parser.parse_override(f"x={value}")
    except HydraException:
        return False
    if parsed.is_sweep_override():
        return is_sweep and not Path(value).expanduser().exists()
    read = parsed._value
    return read is None or isinstance(read, QuotedString) or _is_whole(read)


def _is_whole(read: object) -> bool:
    """Tell whether it is a text without `${`, or with one that OmegaConf finds the end of."""
    try:
        OmegaConf.create({"x": read})
    except OmegaConfBaseException:
        return False
    return isinstance(read, str)


@cache
def _texts() -> frozenset[str]:
    return frozenset(_of(DetectProgram, ""))


def _of(schema: type, prefix: str) -> Iterator[str]:
    """List the settings of a schema that are one text."""
    for field in fields(schema):
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        if str in kinds:
            yield prefix + field.name
        for nested in VARIANTS.get(field.name, [one for one in kinds if is_dataclass(one)]):
            yield from _of(nested, f"{prefix}{field.name}.")  # pyright: ignore[reportArgumentType]


def quote(value: str) -> str:
    r"""Quote a value so that Hydra's grammar, and OmegaConf after it, take it literally.

    To Hydra a backslash tells only before a quote.

    >>> print(quote(r"it's ${5}, \d"))
    'it\'s \${5}, \d'
    """
    escaped = re.sub(r"(\\*)'", r"\1\1\'", uninterpolated(value))
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"
