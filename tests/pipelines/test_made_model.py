"""A GGUF file in the place of a preset: converted once, then read like any folder."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from ghosttrack.models.hub import model_identity
from ghosttrack.pipelines.made_model import make_model
from ghosttrack.pipelines.model_folders import embedded_folder
from ghosttrack.pipelines.setup import Setup
from ghosttrack.run import Run
from tests.support import tiny
from tests.support.settings import detection


def test_a_gguf_file_is_converted_once_and_is_the_model_of_every_stage(tmp_path: Path):
    reference = tiny.tiny_qwen2(tmp_path / "reference")
    file = tiny.tiny_gguf(tmp_path / "tiny.gguf", reference)
    config = detection(f"model.path={file}", "model.name=mine", f"output_root={tmp_path}")
    make_model(config)
    (made,) = (tmp_path / "mine" / "models").glob("mine-*/")
    written = (made / "model.safetensors").stat().st_mtime_ns
    make_model(config)
    assert (made / "model.safetensors").stat().st_mtime_ns == written
    setup = Setup(config, Run(tmp_path / "run", "detect"))
    ids = torch.arange(12)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(reference)(ids).logits
    torch.testing.assert_close(
        setup.lm.logits(ids, torch.ones_like(ids, dtype=torch.bool)), expected, atol=1e-5, rtol=0
    )
    assert setup.layers == list(range(tiny.N_LAYERS))
    assert setup.lm.prefix_ids == []
    identity = model_identity(config.model, made)
    assert setup.model_identity == identity
    file.write_bytes(file.read_bytes() + b"\0")
    other = embedded_folder(config.model, tmp_path / "mine")
    assert other != made
    assert model_identity(config.model, other) != identity
