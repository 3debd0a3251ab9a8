import pytest
import torch

from ghosttrack.errors import DataError
from ghosttrack.sae.bank import Bank, geometric_median, initialise
from ghosttrack.sae.config import Architecture
from tests.sae.support import activations


def test_the_geometric_median_ignores_an_outlier_that_drags_the_mean():
    points = torch.randn(1, 200, 3, generator=torch.Generator().manual_seed(0))
    points[0, 0] = 1e4
    assert geometric_median(points).norm() < 0.35  # three standard errors
    assert points.mean(1).norm() > 50


def test_the_geometric_median_of_three_collinear_points_is_the_middle_one():
    median = geometric_median(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [50.0, 0.0]]]))
    torch.testing.assert_close(median, torch.tensor([[1.0, 0.0]]), atol=0.05, rtol=0)


def test_scaled_activations_have_variance_d_model_and_the_first_fvu_is_below_one():
    x = 30 * activations(2000)
    bank = Bank(["layer_0", "layer_1"], 16, 64, 4)
    initialise(bank, x)
    scaled = bank.standardise(x)
    spread = (scaled - scaled.mean(1, keepdim=True)).square().sum(-1).mean(1)
    torch.testing.assert_close(spread, torch.full((2,), 16.0), rtol=1e-4, atol=0)
    squares = (x - bank(x)).square().sum((1, 2))
    assert (squares / (x - x.mean(1, keepdim=True)).square().sum((1, 2)) < 0.8).all()


def test_the_encoders_gain_is_the_best_one():
    x = activations(1000)
    bank = Bank(["layer_0", "layer_1"], 16, 64, 4)
    initialise(bank, x)
    errors = []
    for factor in (0.9, 1.0, 1.1):
        with torch.no_grad():
            bank.W_enc.mul_(factor)
            errors.append((x - bank(x)).square().sum((1, 2)))
            bank.W_enc.div_(factor)
    assert (errors[1] < errors[0]).all()
    assert (errors[1] < errors[2]).all()


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_hook_point_with_nothing_to_learn_is_named(value):
    x = activations(100)
    x[1] = value
    with pytest.raises(DataError, match="layer_1"):
        initialise(Bank(["layer_0", "layer_1"], 16, 64, 4), x)


@pytest.mark.parametrize("architecture", list(Architecture)[1:])
@pytest.mark.parametrize("k", [4, 50, 64])
def test_thresholds_are_numbers_even_where_more_than_half_of_the_latents_are_wanted(
    architecture, k
):
    bank = Bank(["layer_0", "layer_1"], 16, 64, k, architecture)
    initialise(bank, activations(500))
    assert (bank.threshold > 0).all()
    assert bank.threshold.isfinite().all()
    l0 = (bank.encode(activations(500)).values > 0).double().sum(-1).mean()
    assert l0 == pytest.approx(min(k, 32), rel=0.25)  # of 64 random directions half are positive
