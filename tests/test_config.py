import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ghosttrack.config import load, resolve_layers, restore
from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models import hub
from ghosttrack.models.sizing import Sizes
from ghosttrack.run import plain
from ghosttrack.typed import literal
from tests.support import tiny
from tests.support.commands import ROOT
from tests.support.settings import PROGRAMS, composed, detection, training

CONF = ROOT / "conf"
REQUIRED = {
    "experiment": {
        "bear": ["questions.path=some/folder"],
        "layers_x_positions": ["corpus.path=some.json"],
    },
    "corpus": {
        "text": ["corpus.path=some.txt"],
        "huggingface": ["corpus.path=some/dataset"],
        "activations": ["corpus.path=some.pt"],
    },
    "questions": {
        "file": ["questions.path=some.csv"],
        "option_scores": ["questions.path=some/folder"],
        "answered": ["questions.path=some.jsonl"],
    },
}
"""What an option asks the user for."""


def options() -> list[tuple[str, str]]:
    """Every option of every group of ours, but Hydra's own and the stages' shared values."""
    groups = [item for item in sorted(CONF.iterdir()) if item.is_dir()]
    return [
        (group.name, option.stem)
        for group in groups
        if group.name not in ("hydra", "stage")
        for option in sorted(group.glob("*.yaml"))
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_defaults_load(program: str) -> None:
    assert load(composed(program), PROGRAMS[program]).seed == 0


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_loads(group: str, option: str) -> None:
    required = REQUIRED.get(group, {}).get(option, [])
    loaded = detection(f"{group}={option}", *required)
    if group == "interventions":
        assert loaded.interventions.name == option


@pytest.mark.parametrize(
    "sweep",
    [
        *("detector_tuning", "ablations", "positions", "seeds", "worlds", "sae_coverage"),
        *("transfer", "known_names"),
    ],
)
def test_every_job_of_a_sweep_of_detect_loads(sweep: str) -> None:
    params = OmegaConf.load(CONF / "sweep" / f"{sweep}.yaml").hydra.sweeper.params
    for key, choices in params.items():
        for choice in re.split(r",(?![^\[]*\])", str(choices)):
            detection(f"sweep={sweep}", f"{key}={choice}")


def test_settings_come_back_from_json() -> None:
    config = detection("model=phi-2", "detector=sensitive")
    for held in (config.model, config.detector, config.questions, config.asking):
        assert restore(type(held), json.loads(json.dumps(plain(held)))) == held
    with pytest.raises(DataError, match="settings of another version"):
        restore(type(config.detector), {**plain(config.detector), "kk": 1})
    with pytest.raises(DataError, match="settings of another version"):
        restore(type(config.detector), {"name": "a"})


@pytest.mark.parametrize(
    ("model", "n_layers", "d_model", "d_sae", "batch"),
    [
        ("gpt2-small", 12, 768, 4096, 32),
        ("gpt2-medium", 24, 1024, 5120, 16),
        ("phi-2", 32, 2560, 10240, 8),
    ],
)
def test_a_model_brings_the_sizes_that_follow_from_it(
    model: str, n_layers: int, d_model: int, d_sae: int, batch: int
) -> None:
    config = training(f"model={model}")
    assert (config.model.n_layers, config.model.d_model) == (n_layers, d_model)
    assert config.sae.d_sae == d_sae
    assert config.extract.batch_size == batch
    assert config.corpus.context == 512
    assert (config.sae.k, config.sae.batch_size, config.sae.base_lr) == (64, 4096, 2e-4)
    assert config.sae.dead_after_tokens == 1_000_000
    assert (config.trainer["max_steps"], config.train.checkpoint_every) == (10_000, None)


def test_the_embedded_model_keeps_what_its_bank_was_tuned_with() -> None:
    config = training()
    assert (config.sae.d_sae, config.sae.k, config.sae.batch_size) == (512, 16, 1024)
    assert (config.sae.base_lr, config.sae.dead_after_tokens) == (7e-4, 50_000)
    assert (config.trainer["max_steps"], config.train.checkpoint_every) == (400, 100)
    assert training("trainer.max_steps=80").trainer["max_steps"] == 80


def test_another_model_in_the_place_of_the_embedded_one_gets_settings_by_its_size(
    tmp_path: Path,
) -> None:
    file = tiny.tiny_gguf(tmp_path / "a.gguf", tiny.tiny_qwen2(tmp_path / "a"))
    for path in (file, tmp_path / "a"):
        config = training(f"model.path={path}", "model.name=a", "sae.k=9")
        assert (config.model.n_layers, config.model.d_model) == (tiny.N_LAYERS, tiny.D_MODEL)
        assert (config.corpus.context, config.sae.d_sae) == (tiny.N_CTX, 8 * tiny.D_MODEL)
        assert (config.sae.k, config.sae.batch_size, config.model.prepend_bos) == (9, 2048, None)
        assert config.trainer["max_steps"] == 4 * 409_600 // 2048
    (tmp_path / "a" / "world.json").touch()
    assert training(f"model.path={tmp_path / 'a'}", "model.name=a").sae.d_sae == 512


def test_a_model_that_is_not_there_is_named_before_anything_is_built() -> None:
    with pytest.raises(ConfigError, match=r"^model\.path: there is no file /nowhere/a\.gguf$"):
        training("model.path=/nowhere/a.gguf")


def test_layers_resolve_to_ascending_blocks_and_one_beyond_them_is_refused() -> None:
    assert resolve_layers("all", range(3), "") == [0, 1, 2]
    assert resolve_layers([2, 0], range(3), "") == [0, 2]
    with pytest.raises(ConfigError, match=r"^layers must be in 0..5, got \[9\]$"):
        resolve_layers([1, 9], range(6), "in 0..5")


@pytest.mark.parametrize("model", ["gpt2-small", "gpt2-medium", "phi-2"])
def test_a_sweep_of_models_reads_one_text_whichever_is_chosen(model: str) -> None:
    grid = OmegaConf.load(CONF / "sweep" / "models.yaml").hydra
    assert model in grid.sweeper.params.model.split(",")
    chosen = ("sweep=models", f"model={model}")
    assert training(*chosen).corpus.path == "monology/pile-uncopyrighted"
    assert training(*chosen, "corpus=text", "corpus.path=mine.txt").corpus.path == "mine.txt"


def test_the_grid_is_the_studys_eight_pairs() -> None:
    assert training("sweep=topk_grid").sae.d_sae == 512  # a job's own pair comes from its override
    grid = OmegaConf.load(CONF / "sweep" / "topk_grid.yaml").hydra
    assert grid.mode == "MULTIRUN"
    pairs = []
    for shape in grid.sweeper.params["sae/shape"].split(","):
        sae = training(f"sae/shape={shape}").sae
        pairs.append((sae.d_sae, sae.k))
    assert pairs == [
        *((192, 20), (192, 40), (256, 30), (256, 50), (256, 75)),
        *((384, 75), (512, 100), (512, 150)),
    ]


def test_a_tilde_is_the_home_and_a_typed_line_break_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(hub, "own_sizes", lambda *_: Sizes(2, 32))
    typed = (
        *("model.path='~/m'", "bank='~/saes'", "output_root='~/gt'", "corpus=text"),
        *(
            "corpus.path='~/t.txt'",
            r"asking.template='Q: {question}\nA:'",
            r'asking.stop=["\n","."]',
        ),
        r"asking.p_true='{question}\n{answer}'",
    )
    loaded = detection(*literal(typed))
    assert loaded.model.path == "/home/me/m"
    assert loaded.bank == "/home/me/saes"
    assert loaded.output_root == "/home/me/gt"
    assert loaded.corpus.path == "/home/me/t.txt"
    assert loaded.asking.template == "Q: {question}\nA:"
    assert loaded.asking.stop == ["\n", "."]
    assert loaded.asking.p_true == "{question}\n{answer}"


@pytest.mark.parametrize("path", ["a${b", "~/a ${b", r"a\${b}\n"])
def test_a_path_with_an_open_brace_is_a_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    meant = path.replace("~", "/home/me").replace("\\$", "$")
    typed = literal([f"corpus.path={path}", f"asking.template={path}{{question}}"])
    loaded = detection("corpus=text", *typed)
    assert loaded.corpus.path == meant
    assert loaded.asking.template == path.replace("\\n", "\n") + "{question}"


def test_a_runs_folder_lies_in_the_home_that_a_tilde_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = compose("train", overrides=["output_root='~/gt'"], return_hydra_config=True)
    whole.hydra.job.name = "train"
    assert whole.hydra.run.dir.startswith("/home/me/gt/ghostworld/runs/train/")
    assert whole.hydra.sweep.dir.startswith("/home/me/gt/ghostworld/sweeps/")
