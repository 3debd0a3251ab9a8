"""How large a model is, and the settings of its bank that follow from its size."""

from typing import NamedTuple

CONTEXT = 512
"""Tokens per window; a model that reads fewer takes windows of what it reads."""
MOST_STEPS, EPOCHS = 10_000, 4


class Sizes(NamedTuple):
    """What of a model other settings depend on."""

    n_layers: int
    d_model: int
    n_ctx: int = 2**31
    """Most tokens that it reads, where this is known."""


class BankSettings(NamedTuple):
    """Settings of a model without a preset; their names are those of `model` in `conf/`."""

    n_layers: int
    d_model: int
    context: int
    d_sae: int
    extract_batch_size: int
    k: int
    batch_size: int
    base_lr: float
    dead_after_tokens: int
    max_steps: int
    checkpoint_every: None = None
    """By time alone."""
    prepend_bos: None = None
    """As the tokenizer does."""
    gate: None = None
    """Of the detector: what links two layers hangs on how far they lie apart."""


def bank_settings(sizes: Sizes, n_tokens: int | None) -> BankSettings:
    """Choose settings by a model's size.

    The width falls from 8 to 4 times d_model as models grow, as those of published SAEs do; steps
    read the training tokens four times, up to 10,000 steps.

    Args:
        sizes: Of the model.
        n_tokens: That the bank is trained on (`corpus.num_tokens`); None: as many as it likes.

    >>> bank_settings(Sizes(n_layers=30, d_model=576, n_ctx=8192), n_tokens=300_000)[2:7]
    (512, 4608, 32, 32, 2048)
    """
    d = sizes.d_model
    small = d < 1024
    batch_size = 2048 if small else 4096
    n_tokens = n_tokens or MOST_STEPS * batch_size
    return BankSettings(
        sizes.n_layers,
        d,
        context=min(CONTEXT, sizes.n_ctx),
        d_sae=d * (8 if small else 6 if d < 2048 else 4),
        extract_batch_size=32 if small else 16 if d < 2048 else 8,
        k=32 if small else 64,
        batch_size=batch_size,
        base_lr=2e-4,
        dead_after_tokens=min(1_000_000, max(50_000, n_tokens // 4)),
        max_steps=max(1, min(MOST_STEPS, EPOCHS * n_tokens // batch_size)),
    )
