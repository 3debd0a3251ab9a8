import pytest

from ghosttrack.errors import ConfigError
from tests.sae.support import sae_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 9999}, "sae.k must be in 1..sae.d_sae=64, got 9999"),
        ({"k": 0}, "sae.k must be in 1..sae.d_sae=64, got 0"),
        ({"d_sae": 0}, "sae.d_sae must be at least 1, got 0"),
        ({"batch_size": 0}, "sae.batch_size must be at least 1, got 0"),
        ({"base_lr": 0.0}, "sae.base_lr must be above 0, got 0.0"),
        ({"decay_frac": 1.5}, "sae.decay_frac must be in 0..1, got 1.5"),
        ({"auxk_coef": -1.0}, "sae.auxk_coef must be at least 0, got -1.0"),
    ],
)
def test_an_impossible_setting_is_named_with_what_would_do(changes, message):
    with pytest.raises(ConfigError) as error:
        sae_config(**changes)
    assert str(error.value) == message


def test_the_learning_rate_scales_as_one_over_the_root_of_the_width():
    assert sae_config(d_sae=2**14, base_lr=2e-4).lr == pytest.approx(2e-4)
    assert sae_config(d_sae=2**12, base_lr=2e-4).lr == pytest.approx(4e-4)
