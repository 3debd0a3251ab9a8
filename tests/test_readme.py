"""What README and docs say can be typed, can be typed."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from ghosttrack.config import TrainProgram, load
from ghosttrack.models import hub
from ghosttrack.models.sizing import Sizes
from ghosttrack.sae.bank import Bank, initialise
from ghosttrack.sae.evaluate import evaluate
from tests.support.settings import PROGRAMS, composed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {
    str(file.relative_to(ROOT / "docs")): file.read_text(encoding="utf-8")
    for file in sorted(ROOT.glob("docs/**/*.md"))
}
PAGES = {"README.md": README, **DOCS}
EVERYTHING = "\n".join(PAGES.values())
CALL = re.compile(r"(?:^|[\s`/&])(?:\S*/)?python3? (\w+)\.py([^\n`|]*)", re.MULTILINE)
MODULE = re.compile(r"python3? -m ([\w.]+)")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def calls(text: str) -> list[tuple[str, list[str]]]:
    """Program and arguments of every `python <program>.py ...`."""
    return [(program, shlex.split(rest, comments=True)) for program, rest in CALL.findall(text)]


def jobs(arguments: list[str]) -> list[list[str]]:
    """The jobs' overrides: one job, or with `-m` the whole sweep."""
    overrides = [one for one in arguments if not one.startswith("-")]
    if "-m" not in arguments:
        return [overrides]
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def test_the_first_block_installs_and_does_the_main_job_in_one_command():
    first = blocks("bash")[0].strip()
    assert "\n" not in first
    assert "pip install" in first
    assert calls(first) == [("detect", [])]


def test_the_second_block_installs_what_tests_need_and_runs_all_that_need_no_gpu_and_no_network():
    second = blocks("bash")[1].strip()
    assert "\n" not in second
    assert ".[dev]" in second
    assert second.endswith("-m pytest -n 2")
    pytest_options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    assert "not gpu and not network" in pytest_options["ini_options"]["addopts"]


def test_both_commands_use_the_constraints_that_are_there():
    for block in blocks("bash")[:2]:
        assert "-c constraints.txt" in block
    assert (ROOT / "constraints.txt").is_file()


@pytest.mark.parametrize(("program", "arguments"), calls(EVERYTHING))
def test_every_command_composes_and_loads(
    program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hub, "own_sizes", lambda *_: Sizes(2, 32))  # of models of one's own
    assert (ROOT / f"{program}.py").is_file()
    for overrides in jobs(arguments):
        load(composed(program, *overrides), PROGRAMS[program])


@pytest.mark.parametrize("module", sorted(set(MODULE.findall(EVERYTHING)) - {"pip", "venv"}))
def test_every_module_that_a_command_runs_is_there(module: str):
    found = importlib.util.find_spec(module)
    assert found is not None, module
    if found.submodule_search_locations:
        assert importlib.util.find_spec(f"{module}.__main__"), module


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_pasted(page: str):
    for block in blocks("bash", PAGES[page]):
        assert not re.search(r"<\w[^>]*>", block), block


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_sections(page: str):
    for link, section in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", PAGES[page]):
        home = (ROOT / "docs" / page).parent if page in DOCS else ROOT
        target = home / (link or Path(page).name)
        assert target.exists(), link
        text = target.read_text(encoding="utf-8") if target.suffix == ".md" else ""
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}
        assert not section or section in anchors, f"{link}#{section}"


def test_every_page_is_reached_from_the_readme():
    links = r"\]\((?!http)([^)#]+\.md)"
    index = "\n".join(f"](docs/questions/{one})" for one in
                      re.findall(links, DOCS["questions/README.md"]))  # fmt: skip
    reached = {one.removeprefix("docs/") for one in re.findall(links, README + index)}
    assert set(DOCS) <= reached


def test_the_architecture_page_and_its_picture_name_rooms_that_are_there():
    picture = (ROOT / "docs" / "pictures" / "architecture.svg").read_text()
    named = re.findall(r">([\w/, ]+/)<", picture) + re.findall(r"`(\w+)/`", DOCS["architecture.md"])
    rooms = {room.strip(" /") for one in named for room in one.split(",")}
    kept = {"corpora", "activations", "saes", "answers", "tracks", "detectors", "evaluations"}
    packages = {one.name for one in (ROOT / "ghosttrack").iterdir() if one.is_dir()}
    assert packages - {"hydra_plugins", "__pycache__"} <= rooms - kept
    assert rooms - kept <= packages | {"ghosttrack", "sweep"}


def test_a_sweep_of_the_readme_is_taken_apart_into_its_jobs():
    assert jobs(["-m", "sae.k=8,16", "seed=1"]) == [["sae.k=8", "seed=1"], ["sae.k=16", "seed=1"]]


@pytest.mark.parametrize(
    "group", sorted(one.name for one in (ROOT / "conf").iterdir() if one.is_dir())
)
def test_every_option_of_a_group_that_the_readme_tables_is_named_and_no_other(group: str):
    page = DOCS["configuration.md"]
    rows = [line for line in page.splitlines() if line.startswith(f"| `{group}` |")]
    if not rows:
        assert group in ("hydra", "stage")  # not for users to choose from
        return
    named = set(re.findall(r"`([\w.-]+)`", rows[0].split("|", 2)[2]))
    assert named == {option.stem for option in (ROOT / "conf" / group).glob("*.yaml")}


def test_the_table_of_wrong_overrides_says_what_is_answered():
    typed = re.findall(
        r"^\| `([+\w.=]+)` \| `(config: [^`]+)` \|$", DOCS["configuration.md"], re.MULTILINE
    )
    assert len(typed) >= 3
    for override, answer in typed:
        cfg = composed("train", override)
        with pytest.raises(Exception, match=re.escape(answer.removeprefix("config: "))):
            load(cfg, TrainProgram)


def test_the_lines_about_a_bank_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    saes = Path("outputs/ghostworld/saes")
    saes.mkdir(parents=True)
    torch.manual_seed(0)
    bank = Bank(["layer_0", "layer_2"], d_model=6, d_sae=12, k=3)
    x = torch.randn(2, 40, 6)
    initialise(bank.requires_grad_(False), x)
    bank.save(saes / "topk-512-16-0123456789ab", evaluate(bank, [x], torch.device("cpu")))
    (example,) = blocks("python", DOCS["banks.md"])
    names: dict[str, object] = {}
    exec(example, names)
    acts, x_hat = names["acts"], names["x_hat"]
    torch.testing.assert_close(acts, bank.encode(names["x"]))
    torch.testing.assert_close(x_hat, bank(names["x"]))


def test_the_readme_names_files_that_exist():
    layout = next(block for block in blocks("text") if "ghosttrack/" in block)
    for name in re.findall(r"^  (\w+/|\w+\.py) ", layout, re.MULTILINE):
        assert (ROOT / "ghosttrack" / name).exists(), name


def test_the_readme_is_at_most_160_lines():
    assert len(README.splitlines()) <= 160


@pytest.mark.parametrize(("end", "most"), [("to a bank", 25), ("a row of the table", 40)])
def test_the_newcomers_path_goes_down_by_imports(end: str, most: int):
    """Every file after the first is imported by one that stands before it."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = contributing.split(f"{end}:\n", 1)[1].split("```")[1]
    path = [line.split()[0] for line in text.strip().splitlines()[1:]]
    assert 5 < len(path) <= most
    for place, file in enumerate(path[1:], start=1):
        module = file.removesuffix(".py").replace("/", ".")
        assert any(module in imports(ROOT / one) for one in path[:place]), file


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.Constant) and str(node.value).startswith("ghosttrack."):
            found.add(node.value)  # named, to be imported when it is called
    return found
