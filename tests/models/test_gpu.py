from contextlib import nullcontext

import pytest
import torch

from ghosttrack.models.config import Products
from ghosttrack.models.gpu import multiplying

GPU, CPU = torch.device("cuda"), torch.device("cpu")
FP32 = torch.float32


def tf32() -> bool:
    return torch.backends.cuda.matmul.allow_tf32


def test_tf32_holds_inside_alone_and_on_a_gpu_alone():
    with multiplying(Products.tf32, GPU, FP32):
        assert tf32()
    assert not tf32()
    for products, device in ((Products.fp32, GPU), (Products.tf32, CPU)):
        with multiplying(products, device, FP32):
            assert not tf32()


def test_bf16_is_autocast_of_a_gpu_and_of_fp32_weights(monkeypatch: pytest.MonkeyPatch):
    called: list[tuple[object, ...]] = []
    monkeypatch.setattr(torch, "autocast", lambda *what: called.append(what) or nullcontext())
    with multiplying(Products.bf16, CPU, FP32), multiplying(Products.bf16, GPU, torch.float16):
        assert called == []
    with multiplying(Products.bf16, GPU, FP32):
        assert called == [("cuda", torch.bfloat16)]
