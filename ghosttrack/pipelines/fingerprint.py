"""A hash of the code that computes something: of a function and all of the product that it names.

The source is read, never imported: definitions that a function names (functions, whole classes,
constants of modules) are followed from module to module, by name. Comments, docstrings and the
layout of lines do not count. Settings, the setup and whatever else stands in a module of `BY_USE`
count by what is used of them, as their values enter identities anyway.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]
UNRELATED = frozenset(
    f"ghosttrack.{name}"
    for name in (
        *("errors", "run", "processes", "memory", "jit", "files", "artifacts", "launch"),
        "wandb_client",
        *("data.progress", "training.loggers", "training.progress", "pipelines.fingerprint"),
        *("pipelines.stage", "pipelines.model_folders", "pipelines.workers"),
    )
)
"""Modules that say, time and keep, or whose results have identities of their own.

That they do no more is a matter of meaning, which no syntax tells: hence a list. A module that is
missing here costs a rebuild where it is edited; only one too many could leave a stale artefact.
"""
BY_USE = frozenset({"ghosttrack.pipelines.setup"})
"""Modules of whose classes those methods count alone that are named; so do those of settings."""


class Definition(NamedTuple):
    """A statement of a module, or a method."""

    digest: str
    names: frozenset[str]
    """All that it reads by a bare name."""
    attributes: frozenset[tuple[str, str]]
    """Those of bare names: `module.function`."""
    used: frozenset[str]
    """Attributes of anything."""


class ModuleSource(NamedTuple):
    """What a module defines."""

    trees: dict[str, list[ast.stmt]]
    """Name to the statements of the module that define it, `Class.method` included."""
    imports: dict[str, tuple[str, str]]
    """Name to module and name there; the latter is empty where the module is meant."""


def fingerprint(function: Callable[..., object]) -> str:
    """Hash what a function of the product does, in 12 hex digits."""
    return hashed(function.__module__, function.__qualname__)


@cache
def hashed(module: str, name: str) -> str:
    """Hash a definition with all that it hangs on, in 12 hex digits."""
    found = reached(module, name)
    lines = "\n".join(f"{key[0]}:{key[1]} {found[key]}" for key in sorted(found))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def reached(module: str, name: str) -> dict[tuple[str, str], str]:
    """Give every definition that one hangs on, itself first, with the hash of its own text."""
    found: dict[tuple[str, str], str] = {}
    waiting = [(module, name)]
    while waiting:
        key = waiting.pop()
        if key in found or key[0] in UNRELATED or not (parts := _definitions(*key)):
            continue
        found[key] = " ".join(part.digest for part in parts)
        for part in parts:
            waiting += _named(key, part)
    return found


def _named(key: tuple[str, str], part: Definition) -> Iterator[tuple[str, str]]:
    """Follow what a definition names, out of its module where it is imported."""
    module, name = key
    for used in part.names:
        yield from _uses(_resolve(module, used), part)
    for of, attribute in part.attributes:
        target = _resolve(module, of)
        if target and not target[1]:
            yield from _uses(_resolve(target[0], attribute), part)
    if "." in name:  # a method of a class that counts by use names others by `self`
        yield from _uses((module, name.partition(".")[0]), part)


def _uses(target: tuple[str, str] | None, part: Definition) -> Iterator[tuple[str, str]]:
    if target is None or not target[1]:
        return
    module, name = target
    methods = _by_use(module, name)
    if methods is None:
        yield target
    else:
        at_hand = {used for of, used in part.attributes if of in ("setup", "self")}
        used = at_hand if module in BY_USE else part.used
        yield from ((module, f"{name}.{method}") for method in methods & used)


@cache
def _by_use(module: str, name: str) -> frozenset[str] | None:
    """Name the methods of a class that counts by use; None for all else."""
    source = _source(module)
    is_setting = module.endswith("config")
    if source is None or not (is_setting or module in BY_USE):
        return None
    if not all(isinstance(tree, ast.ClassDef) for tree in source.trees[name]):
        return None
    return frozenset(key.partition(".")[2] for key in source.trees if key.startswith(f"{name}."))


def _resolve(module: str, name: str) -> tuple[str, str] | None:
    """Find what a name of a module stands for; None where it is not of this package."""
    source = _source(module)
    if source is None:
        return None
    if name in source.trees:
        return module, name
    if name not in source.imports:
        return None
    origin, inner = source.imports[name]
    if not origin.startswith("ghosttrack"):
        return None
    if not inner:
        return origin, ""
    if _source(f"{origin}.{inner}") is not None:
        return f"{origin}.{inner}", ""
    return _resolve(origin, inner)


def source_text(module: str) -> str | None:
    """Read a module of this package; None where there is no such."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return None


@cache
def _source(module: str) -> ModuleSource | None:
    text = source_text(module)
    return None if text is None else _parsed(text)


@cache
def _parsed(text: str) -> ModuleSource:
    tree = ast.parse(text)
    source = ModuleSource({}, dict(_imports(tree.body)))
    for statement in _top_level(tree.body):
        for name in _defines(statement):
            source.trees.setdefault(name, []).append(statement)
        if isinstance(statement, ast.ClassDef):
            for inner in statement.body:
                if isinstance(inner, ast.FunctionDef):
                    source.trees[f"{statement.name}.{inner.name}"] = [inner]
    return source


def _imports(body: Iterable[ast.AST]) -> Iterator[tuple[str, tuple[str, str]]]:
    """List what statements import, inside of functions as well."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((one.asname or one.name, (node.module, one.name)) for one in node.names)
        elif isinstance(node, ast.Import):
            yield from ((one.asname, (one.name, "")) for one in node.names if one.asname)
        else:
            for inner in ("body", "orelse", "handlers", "finalbody", "cases"):
                yield from _imports(getattr(node, inner, ()))


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _top_level(statement.body)
        else:
            yield statement


def _defines(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name):
                yield node.id


def _definitions(module: str, name: str) -> list[Definition]:
    source = _source(module)
    return [_definition(tree) for tree in source.trees.get(name, [])] if source else []


@cache
def _definition(tree: ast.stmt) -> Definition:
    words, nodes = list[str](), list[ast.AST]()
    names, attributes, used = set[str](), set[tuple[str, str]](), set[str]()
    _spell(tree, words, nodes)
    for node in nodes:
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
            if isinstance(node.value, ast.Name):
                attributes.add((node.value.id, node.attr))
    digest = hashlib.sha256("".join(words).encode()).hexdigest()
    return Definition(digest, frozenset(names), frozenset(attributes), frozenset(used))


def _spell(value: object, words: list[str], nodes: list[ast.AST]) -> None:
    """Spell a tree without places, comments, docstrings, and what a Python version adds empty.

    Args:
        value: A node, or what stands in its fields.
        words: What it is spelt by is added.
        nodes: Those that were spelt are added.
    """
    if isinstance(value, ast.AST):
        nodes.append(value)
        words.append(f"({type(value).__name__}")
        for field in value._fields:
            held = getattr(value, field, None)
            if field not in ("ctx", "type_comment") and held not in (None, []):
                words.append(f" {field}=")
                _spell(held, words, nodes)
        words.append(")")
    elif isinstance(value, list):
        words.append("[")
        for item in value:
            if not _is_docstring(item):
                _spell(item, words, nodes)
        words.append("]")
    else:
        words.append(repr(value))


def _is_docstring(node: object) -> bool:
    """Recognise a string that stands for itself: a docstring, of an attribute as well."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
