"""Known features are found again: the benchmark `tests.benchmarks.dictionary` in small."""

import pytest

from ghosttrack.sae.bank import Bank
from ghosttrack.sae.config import Architecture
from tests.benchmarks.dictionary import World, train
from tests.sae.support import sae_config

THRESHOLDS = {"bandwidth": 0.5, "l0_coef": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    [
        Architecture.topk,
        pytest.param(Architecture.jumprelu, marks=pytest.mark.long),
        pytest.param(Architecture.batchtopk, marks=pytest.mark.long),
        pytest.param(Architecture.matryoshka, marks=pytest.mark.long),
    ],
)
def test_a_bank_finds_the_features_that_made_its_activations(architecture):
    changes = THRESHOLDS if architecture is Architecture.jumprelu else {}
    if architecture is Architecture.matryoshka:
        changes = {"prefixes": [0.5, 1.0]}
    config = sae_config(
        architecture=architecture,
        d_sae=192,
        k=4,
        batch_size=512,
        base_lr=1e-3,
        dead_after_tokens=10_000,
        **changes,
    )
    world = World(n_features=100, d_model=48, n_active=4, device="cpu")
    bank = Bank(["layer_0"], 48, config.d_sae, config.k, architecture)
    train(world, bank, config, n_steps=1000)
    assert world.found(bank) >= 0.95
    l0 = float((bank.encode(world.batch(4000)).values > 0).double().sum(-1).mean())
    assert l0 == pytest.approx(4, rel=0.15)
