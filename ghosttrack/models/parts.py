"""Where each family of language models keeps its blocks, its final norm and its head."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from ghosttrack.errors import ConfigError

BLOCKS = ("h", "layers", "blocks")
NORMS = ("ln_f", "final_layernorm", "final_layer_norm", "norm", "norm_f")
"""GPT-2, Bloom and Falcon; Phi and Persimmon; GPT-NeoX and OPT; Llama, Qwen and Mistral; MPT."""


class ModelParts(NamedTuple):
    """The modules that the residual stream passes through."""

    trunk: nn.Module
    """Everything below the head."""
    embed: nn.Embedding
    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Linear
    logit_cap: float | None
    """Gemma 2 squashes its logits: `cap * tanh(logits / cap)`."""


class FinalNorm(NamedTuple):
    """What the final norm does: `gain * (x - mean(x)) / scale(x) + bias`."""

    gain: Float[Tensor, " d_model"]
    is_centred: bool
    """True for LayerNorm, False for RMSNorm, which subtracts no mean."""
    eps: float

    def scale(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
        """Return the divisor: the standard deviation (LayerNorm) or the root mean square."""
        resid = resid.float()
        if self.is_centred:
            resid = resid - resid.mean(-1, keepdim=True)
        return (resid.square().mean(-1) + self.eps).sqrt()


def find_parts(model: PreTrainedModel) -> ModelParts:
    """Locate the parts of any causal language model that is built like those above.

    Raises:
        ConfigError: A part has a name that is not known here.
    """
    trunk = model.base_model
    inner = getattr(trunk, "decoder", trunk)  # OPT
    blocks = next((m for m in _named(inner, BLOCKS) if isinstance(m, nn.ModuleList)), None)
    norm = next(_named(inner, NORMS), None)
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    if blocks is None or norm is None or not isinstance(head, nn.Linear):
        raise ConfigError(
            f"model: {type(model).__name__} is not built as a known causal language model "
            f"(blocks in {'|'.join(BLOCKS)}, final norm in {'|'.join(NORMS)}, a linear head)"
        )
    assert isinstance(embed, nn.Embedding)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return ModelParts(trunk, embed, blocks, norm, head, cap)


def _named(module: nn.Module, names: tuple[str, ...]) -> Iterator[Any]:
    return (getattr(module, name) for name in names if hasattr(module, name))


@torch.no_grad()
def final_norm(norm: nn.Module, like: Tensor) -> FinalNorm:
    """Read a norm's gain off its answers, so that no family's convention matters (Gemma adds 1).

    Args:
        norm: LayerNorm or RMSNorm of an even width.
        like: A weight of the model: width in its last axis, device and dtype.
    """
    probe = torch.ones(like.shape[-1], device=like.device, dtype=like.dtype)
    probe[1::2] = -1  # mean 0 and mean square 1: divided by sqrt(1 + eps) only
    half = (norm(probe).float() - norm(-probe).float()) / 2
    shift = norm(probe + 2).float() - norm(probe).float()
    is_centred = bool(shift.abs().max() < 0.1 * half.abs().max())
    eps = float(next(_named(norm, ("eps", "variance_epsilon")), None) or _epsilon(norm, probe))
    return FinalNorm(half * probe.float() * (1 + eps) ** 0.5, is_centred, eps)


def _epsilon(norm: nn.Module, probe: Float[Tensor, " d_model"]) -> float:
    """Measure what a norm that does not tell it adds to the variance (OLMo's), in fp32.

    An input of mean square s^2 comes out s / sqrt(s^2 + eps) as long as a large one.
    """
    s = 1e-3
    large, small = (norm(scale * probe.float()).abs().mean().item() for scale in (1e3, s))
    return s**2 * ((large / small) ** 2 - 1)
