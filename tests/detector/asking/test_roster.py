"""The roster of interventions: found in their package, and named by presets and settings."""

import pkgutil
from pathlib import Path

import pytest
import yaml

from ghosttrack.detector.asking import families
from ghosttrack.detector.asking.roster import RESCORED, ROSTER, ghost_counts, requested
from ghosttrack.detector.config import InterventionsConfig, SubjectSource
from ghosttrack.errors import ConfigError

CONF = Path(__file__).parents[3] / "conf"


def settings(**copies):
    given = SubjectSource.given
    return InterventionsConfig("test", copies, given, siblings_again=False, known_names=1.0)


def test_a_module_of_the_package_is_a_family_of_its_name():
    names = {module.name for module in pkgutil.iter_modules(families.__path__)}
    assert {family.name for family in ROSTER} == names
    assert len({family.order for family in ROSTER}) == len(ROSTER)
    for family in ROSTER:
        assert all(spec.family == family.name for spec in family.specs)


def test_families_keep_their_order():
    assert (
        *("paraphrase", "swap", "owner", "siblings", "ablate"),
        *("noise_subject", "noise_all", "dropout"),
    ) == RESCORED


@pytest.mark.parametrize(("preset", "count"), [("none", 0), ("full", None)])
def test_a_preset_names_every_family(preset: str, count: int | None):
    """So that each can be set, and is asked for where all are."""
    copies = yaml.safe_load((CONF / "interventions" / f"{preset}.yaml").read_text())["copies"]
    assert list(copies.items()) == [(family.name, count) for family in ROSTER]


def test_a_count_of_none_is_the_familys_own():
    copies = {"dropout": None, "swap": 0, "paraphrase": 2, "ghosts": None}
    found = {family.name: n for family, n in requested(copies).items()}
    assert found == {"paraphrase": 2, "dropout": 8, "ghosts": 8}
    assert ghost_counts(copies) == (2, 8)


@pytest.mark.parametrize(
    ("copies", "said"),
    [
        ({"parafrase": 1}, "copies.parafrase is no family of interventions; did you mean paraphr"),
        ({"xyz": 1}, "the families: ablate, dropout, ghosts, noise_all, noise_subject, owner, par"),
        ({"owner": -1}, "interventions.copies.owner must be at least 0, got -1"),
    ],
)
def test_counts_are_checked_against_the_roster(copies, said):
    with pytest.raises(ConfigError, match=said):
        settings(**copies)
