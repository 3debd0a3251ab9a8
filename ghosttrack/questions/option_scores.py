"""How strongly some model gives each option, as LM-Pub-Quiz's versions have written it.

A row names its subject (`sub_id, sub_label`), the right option (`answer_idx`, or `obj_id` and
`obj_label`) and the options' scores, in one of these forms:

- `pll_scores`: a log-probability an option, or one a token and option, which are summed.
- `predicted_tokens` and `pll_scores` (before 0.1): options' names and surprisals in any order.
- `results` (before 0.1): of each option its tokens with their surprisals.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ghosttrack.data.documents import lines, parsed
from ghosttrack.errors import DataError
from ghosttrack.questions.columns import Row, items, numbers, text, texts
from ghosttrack.questions.records import file_rows

RESULTS = ("_results.jsonl", "_results.parquet")
METADATA = ("metadata_results.json", "metadata_relations.json")
"""What tells options' names and statements; of a relation in both the first counts."""

log = logging.getLogger(__name__)


class OptionScores(NamedTuple):
    """How strongly a model gives each answer to each subject of one relation."""

    relation: str
    ids: tuple[str, ...]
    """Of the facts; unique over all relations."""
    subjects: tuple[str, ...]
    statements: tuple[str, ...]
    """What the options were put into, as far as the folder tells."""
    options: tuple[str, ...]
    scores: Float[np.ndarray, "subject option"]
    """Log-probability of the statement with the option in it, up to a constant per subject."""
    right: Int[np.ndarray, " subject"]
    """Index of the right option."""


class _Told(NamedTuple):
    """What a folder tells of a relation."""

    options: tuple[str, ...]
    """None where it does not say."""
    option_ids: tuple[str, ...]
    templates: tuple[str, ...]
    template: object
    """Of the template that was used; of several each row says its own."""
    where: str


def read_option_scores(folder: Path) -> tuple[OptionScores, ...]:
    """Read the folder of results that LM-Pub-Quiz writes: a file a relation, a fact a row.

    What a folder lacks (options' names, subjects' names) is replaced by numbers and ids, and said
    with its count: controls that read names then see less.

    Raises:
        DataError: There is no such file, or a row is malformed; says which.
    """
    files = sorted(file for suffix in RESULTS for file in folder.glob(f"*{suffix}"))
    if not files:
        raise DataError(
            f"{folder}: no <relation>{RESULTS[0]} lies there; give LM-Pub-Quiz's folder"
        )
    told = _metadata(folder)
    found = tuple(_relation(file, told.get(_code(file))) for file in files)
    nameless = [one.relation for one in found if one.options[0] == _nth(0)]
    if nameless:
        log.warning(
            "%s: neither %s nor the rows name the options of %d of %d relations (%s); controls that"
            " read answers see numbers",
            *(folder, " nor ".join(METADATA), len(nameless), len(found), ", ".join(nameless[:9])),
        )
    return found


def _code(file: Path) -> str:
    return file.stem.removesuffix("_results")


def _nth(option: int) -> str:
    return f"option {option}"


def _metadata(folder: Path) -> dict[str, _Told]:
    told: dict[str, _Told] = {}
    for path in (folder / name for name in METADATA):
        if not path.is_file():
            continue
        text = "\n".join(line for _, line in lines(path))
        found = parsed(text, str(path), "write an object per relation")
        if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
            raise DataError(f"{path}: must hold an object per relation")
        new = {code: _told(one, f"{path}: {code}") for code, one in found.items()}
        told = {**new, **told}
    return told


def _told(one: Row, where: str) -> _Told:
    options = texts(one, "answer_space_labels", where) or texts(one, "answer_space", where)
    ids = tuple(map(str, items(one, "answer_space_ids", where)))
    templates, index = texts(one, "templates", where), one.get("template_index", 0)
    told = _Told(options, ids, templates, index, where)
    if templates and type(index) is int:
        _template(told, index)
    return told


def _template(told: _Told, index: object) -> str:
    if type(index) is not int or not 0 <= index < len(told.templates):
        n = len(told.templates)
        raise DataError(f"{told.where}: template_index {index!r} names none of {n}")
    return told.templates[index]


class _Fact(NamedTuple):
    where: str
    row: Row
    right: int
    scores: list[float]


def _relation(path: Path, told: _Told | None) -> OptionScores:
    relation = _code(path)
    rows = list(file_rows(path))
    if not rows:
        raise DataError(f"{path}: holds no facts")
    options = _options(rows, told)
    facts = [_fact(row, where, options, told) for where, row in rows]
    n_options = len(facts[0].scores)
    for fact in facts:
        if len(fact.scores) != n_options:
            raise DataError(
                f"{fact.where}: {len(fact.scores)} pll_scores where the first row of the relation"
                f" has {n_options}"
            )
    if options and len(options) != n_options:
        where = told.where if told and told.options else f"{path}"
        raise DataError(f"{path}: {n_options} pll_scores, but {where} names {len(options)} options")
    ids = [_name(fact, "sub_id", "sub_label") for fact in facts]
    subjects = [_name(fact, "sub_label", "sub_id") for fact in facts]
    _say_nameless(path, facts)
    return OptionScores(
        relation=relation,
        ids=_unique(f"{relation}/{one}" for one in ids),
        subjects=tuple(subjects),
        statements=tuple(
            _statement(relation, told, fact.row).replace("[X]", subject)
            for fact, subject in zip(facts, subjects, strict=True)
        ),
        options=tuple(options.values()) or tuple(map(_nth, range(n_options))),
        scores=np.array([fact.scores for fact in facts]),
        right=np.array([fact.right for fact in facts], dtype=np.int64),
    )


def _options(rows: Sequence[tuple[str, Row]], told: _Told | None) -> dict[str, str]:
    """Name the options by their ids, in the order of their scores; none where nothing does."""
    is_in_rows_order = "results" in rows[0][1]
    if told and told.options and not is_in_rows_order:
        ids = told.option_ids or tuple(map(str, range(len(told.options))))
        if not len(ids) == len(set(ids)) == len(told.options):
            raise DataError(f"{told.where}: answer_space_ids must name each option once")
        return dict(zip(ids, told.options, strict=True))
    found: dict[str, str] = {}
    if all("obj_label" in row for _, row in rows):
        for where, row in rows:
            label = text(row, "obj_label", where)
            found.setdefault(str(row.get("obj_id", label)), label)
    return found


def _fact(row: Row, where: str, options: Mapping[str, str], told: _Told | None) -> _Fact:
    scores = _scores(row, where, tuple(options.values()))
    if len(scores) < 2:
        raise DataError(f"{where}: pll_scores must hold at least 2 scores, got {len(scores)}")
    right = row.get("answer_idx")
    if right is None and "obj_id" in row:
        right = next((at for at, one in enumerate(options) if one == str(row["obj_id"])), None)
    if type(right) is not int or not 0 <= right < len(scores):
        raise DataError(f"{where}: answer_idx must be in 0..{len(scores) - 1}, got {right!r}")
    if not any(_is_name(row.get(column)) for column in ("sub_id", "sub_label")):
        raise DataError(f"{where}: neither sub_id nor sub_label names the subject")
    return _Fact(where, row, right, scores)


def _scores(row: Row, where: str, options: Sequence[str]) -> list[float]:
    if "results" in row:
        return [-sum(_surprisals(one, where)) for one in items(row, "results", where)]
    given = items(row, "pll_scores", where)
    if given and isinstance(given[0], list):
        return [sum(numbers({"pll_scores": one}, "pll_scores", where)) for one in given]
    scores = numbers(row, "pll_scores", where)
    if "predicted_tokens" not in row:
        return scores
    by_name = dict(zip(texts(row, "predicted_tokens", where), scores, strict=False))
    if missing := [one for one in options if one not in by_name]:
        raise DataError(f"{where}: predicted_tokens lacks the option {missing[0]!r}")
    return [-by_name[one] for one in options]


def _surprisals(option: object, where: str) -> list[float]:
    """Take those of the tokens from `[[[token, surprisal], ...], spans]`."""
    try:
        pairs = option[0]  # pyright: ignore[reportIndexIssue]
        return numbers({"results": [value for _, value in pairs]}, "results", where)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"{where}: results must hold [[token, surprisal], ...] an option"
        ) from error


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _name(fact: _Fact, *columns: str) -> str:
    found = next(fact.row[column] for column in columns if _is_name(fact.row.get(column)))
    return str(found).strip()


def _say_nameless(path: Path, facts: Sequence[_Fact]) -> None:
    nameless = [fact for fact in facts if not _is_name(fact.row.get("sub_label"))]
    if nameless:
        log.warning(
            "%s: %d of %d facts have no sub_label; their sub_id stands for it",
            *(nameless[0].where if len(nameless) == 1 else path, len(nameless), len(facts)),
        )


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """Number a name that comes again, as a fact does that several templates ask."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(found)


def _statement(relation: str, told: _Told | None, row: Row) -> str:
    if told is None or not told.templates:
        return f"{relation} of [X]: [Y]"
    return _template(told, row.get("template_index", told.template))
