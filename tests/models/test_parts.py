import pytest
import torch
from torch import nn
from transformers import OPTConfig, OPTForCausalLM, T5Config, T5ForConditionalGeneration

from ghosttrack.errors import ConfigError
from ghosttrack.models.parts import final_norm, find_parts


class GemmaNorm(nn.Module):
    """RMSNorm whose stored weight is the gain minus 1."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.eps = weight, 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


def test_gain_is_read_off_whatever_the_family_stores():
    weight = torch.linspace(-0.5, 2.0, 8)
    norm = final_norm(GemmaNorm(weight), weight)
    torch.testing.assert_close(norm.gain, 1 + weight)
    assert not norm.is_centred


def test_gain_of_a_layer_norm_is_its_weight_and_leaves_the_bias_out():
    layer = nn.LayerNorm(6, eps=0.25)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -2.0, 3.0, 0.5, 0.0, 1.0]))
        layer.bias.fill_(5.0)
    norm = final_norm(layer, layer.weight)
    torch.testing.assert_close(norm.gain, layer.weight.detach())
    assert norm.is_centred


def test_scale_is_a_deviation_for_layer_norm_and_a_root_mean_square_for_rms_norm():
    resid = torch.tensor([1.0, 3.0])
    layer = final_norm(nn.LayerNorm(2, eps=0.0), torch.ones(2))
    rms = final_norm(nn.RMSNorm(2, eps=0.0), torch.ones(2))
    assert float(layer.scale(resid)) == 1.0  # deviations -1 and 1
    assert float(rms.scale(resid)) == pytest.approx(5.0**0.5)  # (1 + 9) / 2


def test_other_families_are_found_by_the_names_of_their_parts():
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32, "num_hidden_layers": 2}
    model = OPTForCausalLM(OPTConfig(vocab_size=20, num_attention_heads=2, **sizes))
    assert len(find_parts(model).blocks) == 2


def test_a_model_that_is_built_otherwise_is_refused_by_name():
    config = T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(ConfigError, match="T5ForConditionalGeneration is not built as"):
        find_parts(T5ForConditionalGeneration(config))
