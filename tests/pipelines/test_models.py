import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ghosttrack.files import read_json
from ghosttrack.models.config import Dtype
from ghosttrack.models.load import load_lm
from tests.models.conftest import model_config
from tests.support.commands import Workplace, only, said

pytestmark = pytest.mark.slow


def test_activations_of_another_family_in_bf16_are_the_models_own(
    workplace: Workplace, llama_folder: Path, tmp_path: Path
):
    path = os.path.relpath(llama_folder, workplace.home)
    more = ("model.dtype=bf16", "corpus.packing=documents")
    said(workplace.fork(tmp_path, "extract", f"model.path={path}", *more))
    store = only(tmp_path, "activations")
    assert read_json(store / "store.json")["d_model"] == 32
    shard = load_file(store / "train-00000.safetensors")

    lm = load_lm(model_config(dtype=Dtype.bf16), llama_folder)
    first = shard["document_ids"] == shard["document_ids"][0]
    assert shard["positions"][first].tolist() == list(range(1, int(first.sum()) + 1))
    ids = torch.tensor([[*lm.prefix_ids, *shard["token_ids"][first].tolist()]])
    resid = lm.residuals(ids, torch.ones_like(ids).bool(), [0, 1, 2])[:, 0, 1:]
    stored = torch.stack([shard[f"layer_{layer}"][first] for layer in range(3)])
    assert stored.dtype == torch.bfloat16
    # Rows of a batch may be summed in another order than one alone. In two blocks, some dozen
    # roundings each, every one may then fall otherwise, by up to an eps: independent errors, so
    # sqrt(2 * 12), about 5 eps. The neighbouring layer's residuals are further away.
    tolerance = 5 * torch.finfo(torch.bfloat16).eps
    stored, resid = stored.float(), resid.float()
    assert (stored - resid).norm() < tolerance * resid.norm()
    assert (stored[1:] - resid[:-1]).norm() > 2 * tolerance * resid[:-1].norm()
