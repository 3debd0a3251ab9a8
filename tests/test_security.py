"""What others made is read, never run; it is told as text, and leads nowhere else."""

import csv
import json
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from ghosttrack.analysis.latents import find_subject
from ghosttrack.analysis.runs import read_run_folder
from ghosttrack.artifacts import Key, build, read
from ghosttrack.data.config import BadFiles
from ghosttrack.data.documents import TextFiles
from ghosttrack.data.ready import read_ready
from ghosttrack.detector.learners import fitted
from ghosttrack.errors import ConfigError, DataError, GhostTrackError
from ghosttrack.inventory import find, show, sweep_out
from ghosttrack.models.load import load_lm
from ghosttrack.questions.asking import user_turn
from ghosttrack.questions.records import file_rows
from ghosttrack.report.latex import escaped, table
from ghosttrack.report.sheet import sheet_of, write_sheet
from ghosttrack.sae.bank import Bank
from ghosttrack.sae.formats import read_saes
from ghosttrack.training.resume import BankCheckpoints
from sweep.dashboard import main as dashboard
from tests.models.conftest import model_config
from tests.report.test_page import EVIL, Page
from tests.sae.support import small_bank
from tests.support.commands import Workplace, environment, said
from tests.sweep.outputs import bank, detected, hook, judged, run

KEYS = {"WANDB_API_KEY": "f00d" * 10, "HF_TOKEN": "hf_PlantedPlantedPlantedPlanted"}


class Bomb:
    """What unpickles to a call."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.mark,)


def model_of(folder: Path, model: Path, **config: object) -> Path:
    """A copy of a model's folder without its weights."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    found = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**found, **config}))
    return folder


def read_model(folder: Path) -> None:
    load_lm(model_config(), folder, "cpu")


def read_activations(folder: Path) -> None:
    read_ready(folder, [0], folder / "spool")


def read_resume_point(folder: Path) -> None:
    BankCheckpoints(["layer_0"]).load_checkpoint(folder)


PICKLED = {
    "pytorch_model.bin": read_model,
    "sae_layer_0_best.pt": read_saes,
    "layer_0.pt": read_activations,
    "00000.ckpt": read_resume_point,
    "layer_0.npy": read_activations,
}


@pytest.mark.parametrize("name", PICKLED)
def test_no_pickle_is_run(tmp_path: Path, gpt2_folder: Path, name: str):
    folder, mark = model_of(tmp_path / "from elsewhere", gpt2_folder), tmp_path / "mark"
    if name.endswith(".npy"):
        np.save(folder / name, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    else:
        torch.save({"model_state_dict": {"W": Bomb(mark)}, "layer_0": Bomb(mark)}, folder / name)
    with pytest.raises(GhostTrackError, match=r"\A[^\n]+\Z"):
        PICKLED[name](folder)
    assert not mark.exists()


def header(facts: object, size: int | None = None, body: bytes = b"") -> bytes:
    """A safetensors file whose header says anything."""
    text = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def one(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"W_enc": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HEADERS = {
    "empty": b"",
    "cut in the length": b"\x00\x01",
    "longer than the file": header({}, 2**40),
    "of no length at all": header({}, 2**63 + 5),
    "not JSON": header(b"{not"),
    "not UTF-8": header(b"\xff\xfe"),
    "a list": header([1]),
    "a tensor outside": header(one(offsets=(0, 4000))),
    "a tensor before": header(one(offsets=(-8, 4)), body=bytes(4)),
    "offsets swapped": header(one(offsets=(4, 0)), body=bytes(4)),
    "shape too large": header(one(shape=(2**62, 9)), body=bytes(4)),
    "shape of text": header(one(shape="big"), body=bytes(4)),
    "a dtype of nobody": header(one("X9"), body=bytes(4)),
    "bytes that nobody owns": header(one(), body=bytes(400)),
}


def read_detectors(folder: Path) -> None:
    fitted.load(folder)


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_wrong_header_is_one_line_wherever_it_is_read(
    tmp_path: Path, gpt2_folder: Path, content: bytes
):
    readers: dict[str, Callable[[Path], object]] = {
        "model.safetensors": read_model,
        "sae_weights.safetensors": read_saes,
        "layer_0.safetensors": read_activations,
        "detectors.safetensors": read_detectors,
    }
    for name, reads in readers.items():
        folder = tmp_path / name
        folder.mkdir()
        if name.startswith("model"):
            shutil.rmtree(folder)
            model_of(folder, gpt2_folder)
        if name.startswith("sae"):
            (folder / "cfg.json").write_text(json.dumps(SAELENS))
        if name.startswith("detectors"):
            (folder / "detectors.json").write_text("[]")
        (folder / name).write_bytes(content)
        with pytest.raises(GhostTrackError, match=r"\A[^\n]+\Z"):
            reads(folder)


SAELENS = {
    "architecture": "topk", "k": 2, "d_in": 4, "d_sae": 6, "dtype": "float32",
    "apply_b_dec_to_input": True, "normalize_activations": "none",
    "metadata": {"hook_name": "blocks.0.hook_resid_post"},
}  # fmt: skip


def test_what_an_artefact_or_a_run_wants_instantiated_is_not(tmp_path: Path):
    mark = tmp_path / "mark"
    target = {"_target_": "os.mkdir", "path": str(mark), "_args_": [str(mark)]}
    folder = tmp_path / "saelens"
    folder.mkdir()
    tensors = {"W_enc": torch.ones(4, 6), "b_enc": torch.ones(6), "W_dec": torch.ones(6, 4)}
    save_file({**tensors, "b_dec": torch.ones(4)}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(SAELENS | target | {"activation_fn": "topk"}))
    read_saes(folder)
    made = build(Key(tmp_path, "saes", "x", target), lambda folder: small_bank().save(folder, None))
    facts = json.loads((made.path / "bank.json").read_text())
    (made.path / "bank.json").write_text(json.dumps({**facts, **target}))
    Bank.of(read_saes(made.path))
    noon = run(tmp_path / "tiny" / "runs" / "train" / "noon", "train", ["a=1"])
    config = {"model": {"name": "tiny", **target}, "logger": target, "trainer": target}
    (noon / ".hydra" / "config.yaml").write_text(json.dumps(config))
    read_run_folder(noon)
    (noon / ".hydra" / "overrides.yaml").write_text(f"!!python/object/apply:os.mkdir ['{mark}']")
    with pytest.raises(DataError, match=r"overrides\.yaml: is not YAML"):
        read_run_folder(noon)
    assert not mark.exists()


@pytest.mark.parametrize("family", ["gpt2", "made-up"])
def test_code_that_came_with_a_model_is_not_run(tmp_path: Path, gpt2_folder: Path, family: str):
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    folder = model_of(tmp_path / "copy", gpt2_folder, auto_map=code, model_type=family)
    shutil.copy(gpt2_folder / "model.safetensors", folder)
    mark = tmp_path / "mark"
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    if family == "gpt2":
        read_model(folder)
    else:
        with pytest.raises(ConfigError, match=r"\A[^\n]+\Z"):
            read_model(folder)
    assert not mark.exists()


def test_a_run_that_trusted_code_does_not_have_it_run_again(tmp_path: Path, done):
    copied = Path(shutil.copytree(done.output, tmp_path / "copy", symlinks=True))
    for config in copied.rglob(".hydra/config.yaml"):
        text = config.read_text()
        config.write_text(text.replace("trust_remote_code: false", "trust_remote_code: true"))
    assert not find_subject(copied / "tiny").model.trust_remote_code
    assert find_subject(copied / "tiny", trust_remote_code=True).model.trust_remote_code


def test_a_chat_template_reaches_no_python(gpt2_folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
    tokenizer.chat_template = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages }}"
    with pytest.raises(ConfigError, match=r"chat template cannot be applied: [^\n]+\Z"):
        user_turn(tokenizer)


FORMULAS = ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1+1", "＋1", "－1", "＠x")


def test_no_cell_and_no_column_is_a_formula(tmp_path: Path):
    sheet = sheet_of(FORMULAS, [FORMULAS])
    write_sheet(tmp_path / "t", sheet)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells == 2 * [f"'{text}" for text in FORMULAS]
    lines = (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3


def test_no_text_ends_a_latex_cell_or_runs_a_command():
    text = "a & b \\\\ \\input{/etc/passwd} % $x$ {\n\n\\end{table}"
    said = escaped(text)
    assert "\n" not in said
    assert "\\input" not in said
    assert "\\end" not in said
    whole = table(sheet_of(("x",), [(text,)]), "t", said)
    assert whole.count("\\end{table}") == 1
    assert whole.count("&") == whole.count("\\&")


def test_a_models_name_makes_no_script_of_a_link(tmp_path: Path):
    root = tmp_path / "outputs" / "javascript:alert(1)"
    made, found = bank(root, 64, 8, [hook(0), hook(1)]), judged(root)
    (found / "report.html").write_text("a report")
    detected(root / "runs" / "detect" / EVIL.replace("/", "|"), [EVIL], made, found)
    dashboard([str(tmp_path / "outputs")])
    page = Page((tmp_path / "outputs" / "dashboard.html").read_text())
    links = [attrs["href"] or "" for tag, attrs in page.tags if tag == "a"]
    assert [link for link in links if "alert" in link]
    assert not [link for link in links if ":" in link]
    assert not [tag for tag, attrs in page.tags if "onerror" in attrs]
    assert not [text for text in page.scripts if "alert(1)" in text]


NAMES = ["..", "../x", "a/../../x", "/etc", "a\\b", ".x", "", "a\nb", "a\0b", "\x1b[31m", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_elsewhere(name: str):
    with pytest.raises(ConfigError, match=r"\Amodel\.name must be a plain folder name"):
        model_config(name=name)


@pytest.mark.parametrize("hook_name", ["../layer_0", "layer_0/../../x", "/etc", "layer_0\n"])
def test_no_hook_point_leads_elsewhere(tmp_path: Path, hook_name: str):
    small_bank().save(tmp_path, None)
    facts = json.loads((tmp_path / "bank.json").read_text())
    facts["hooks"][0] = hook_name
    (tmp_path / "bank.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="is no hook point"):
        read_saes(tmp_path)


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Path, Path]:
    """An artefact with links to a folder beside the outputs, and that folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.txt").write_text("mine")

    def write(folder: Path) -> None:
        (folder / "data.txt").write_text("some")

    made = build(Key(tmp_path / "out" / "tiny", "saes", "x", {"a": 1}), write)
    (made.path / "linked").symlink_to(elsewhere)
    return made.path, elsewhere


@pytest.mark.parametrize(
    "name", ["linked/precious.txt", "../../../../elsewhere/precious.txt", "/etc/hostname"]
)
def test_a_reader_follows_no_link_and_no_name_out_of_an_artefact(
    linked: tuple[Path, Path], name: str
):
    folder, _ = linked
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 4, "sha256": "0"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="leads out of its artefact"):
        read(folder, verify=True)


def test_clean_deletes_links_and_not_what_they_lead_to(linked: tuple[Path, Path]):
    folder, elsewhere = linked
    moved = elsewhere / folder.name
    shutil.copytree(folder, moved, symlinks=True)
    (folder.parent / "y-0123456789ab").symlink_to(moved)
    sweep_out(folder.parents[2], delete=True)
    assert [one.name for one in folder.parent.iterdir() if not one.name.startswith(".")] == []
    assert (elsewhere / "precious.txt").read_text() == "mine"
    assert (moved / "data.txt").read_text() == "some"


def test_what_a_manifest_says_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    identity: Mapping[str, object] = {"a": 1}
    made = build(Key(tmp_path / "tiny", "saes", "x", identity), lambda folder: None)
    manifest = json.loads((made.path / "manifest.json").read_text())
    (made.path / "manifest.json").write_text(json.dumps({**manifest, "kind": "[/red][link=x]"}))
    show(tmp_path)
    assert "[/red][link=x]" in capsys.readouterr().out
    assert len(find(tmp_path)) == 1


def test_no_archive_is_unpacked(tmp_path: Path):
    (tmp_path / "in").mkdir()
    text = tmp_path / "text.txt"
    text.write_text("some words\n")
    zipped, packed = tmp_path / "in" / "a.zip", tmp_path / "in" / "a.tar.gz"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(text, "../../slip.txt")
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(text, "../../slip.txt")
    before = sorted(tmp_path.rglob("*"))
    for path in (zipped, packed):
        for reads in (
            lambda path: list(file_rows(path)),
            lambda path: list(TextFiles(path, "text", BadFiles.refuse).documents()),
            read_saes,
            lambda path: read_ready(path, [0], tmp_path / "spool"),
        ):
            with pytest.raises(GhostTrackError, match=r"\A[^\n]+\Z"):
                reads(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_no_secret_is_in_what_is_written_or_said(workplace: Workplace, tmp_path: Path):
    command = workplace.command(
        tmp_path, "train", "logger=wandb", "trainer.max_steps=8", "hydra.verbose=true"
    )
    result = subprocess.run(
        command,
        cwd=workplace.home,
        env=environment(workplace.home) | KEYS,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    told = said(result)
    files = [one for one in tmp_path.rglob("*") if one.is_file() and not one.is_symlink()]
    assert [one for one in files if one.suffix == ".wandb"]
    assert len(files) > 20
    for secret in KEYS.values():
        assert secret not in told
        assert [one for one in files if secret.encode() in one.read_bytes()] == []
