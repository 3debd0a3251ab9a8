"""How the embedded language model learns its world: one pass over the text, on two CPU cores."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import GPT2Config, GPT2LMHeadModel

from ghosttrack.world.facts import Recipe, WorldSpec, build, rng_of
from ghosttrack.world.text import EOS_ID, documents, make_tokenizer

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
"""Quintic that pushes singular values in (0, 1] towards 1 fastest (Jordan 2024)."""

MOMENTUM: Final = 0.95
"""Share of the running mean of gradients that each of Muon's steps keeps."""
ITERATIONS: Final = 5
"""Of Newton and Schulz."""


class Muon(Optimizer):
    """SGD with Nesterov momentum whose update is the nearest semi-orthogonal matrix.

    It takes the steps of `torch.optim.Muon` without weight decay, which works in bfloat16, matrix
    by matrix: on a CPU without bfloat16 arithmetic that costs 151 ms a step for the embedded
    model's 24 matrices, this 35 ms, and the whole training half.

    Args:
        params: Matrices only.
        lr: Learning rate; a matrix taller than wide takes sqrt(rows / columns) times as much.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every matrix that has a gradient; matrices of one shape go through as one batch."""
        assert closure is None, "Muon evaluates no closure"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    by_shape[param.shape].append(param)
            for (rows, columns), params in by_shape.items():
                updates = torch.stack([self._momentum(p) for p in params])
                steps = orthogonalise(updates)
                lr = group["lr"] * max(1.0, rows / columns) ** 0.5
                torch._foreach_add_(params, list(steps.unbind()), alpha=-lr)

    def _momentum(self, param: Tensor) -> Tensor:
        """Add a gradient to its running mean and look one step ahead."""
        assert param.grad is not None
        state = self.state[param]
        if not state:
            state["mean"] = torch.zeros_like(param)
        state["mean"].lerp_(param.grad, 1 - MOMENTUM)
        return param.grad.lerp(state["mean"], MOMENTUM)


def orthogonalise(
    matrices: Float[Tensor, "batch rows columns"],
) -> Float[Tensor, "batch rows columns"]:
    """Bring every singular value near 1 (0.7 to 1.2), whatever the matrix's scale.

    X <- (a + bA + cA^2) X with A = X X^T. The factors are polynomials in the first A and commute,
    so that the iteration runs on the small square A, and X is multiplied once, at the end.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalise(matrices.mT).mT
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = x @ x.mT
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    product = identity.expand_as(gram)
    for _ in range(ITERATIONS):
        factor = torch.baddbmm(b * gram + a * identity, gram, gram, alpha=c)
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ x


class Progress(NamedTuple):
    """Where training stands after a step."""

    step: int
    n_steps: int
    loss: float
    """Weighted mean cross-entropy of the step's tokens, in nats."""


def train(spec: WorldSpec, recipe: Recipe, report: Callable[[Progress], None]) -> GPT2LMHeadModel:
    """Train a model on the text of a world; the same spec gives the same model to rounding."""
    torch.manual_seed(spec.seed)
    tokenizer = make_tokenizer(spec)
    model = GPT2LMHeadModel(_architecture(recipe, len(tokenizer)))
    model.train()
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(documents(spec))
    rows = [[EOS_ID, *document.ids, EOS_ID] for document in encoded]
    batches = batch_by_length(rows, recipe.batch_tokens, rng_of(spec, "batches"))
    weights = torch.ones(len(tokenizer))
    weights[tokenizer.convert_tokens_to_ids(list(build(spec).name_parts))] = recipe.name_weight
    optimizers = _optimizers(model, recipe)
    schedules = [_schedule(optimizer, recipe, len(batches)) for optimizer in optimizers]
    for step, batch in enumerate(batches, start=1):
        loss = weighted_loss(model(batch[:, :-1]).logits, batch[:, 1:], weights)
        model.zero_grad()
        loss.backward()
        for stepper in (*optimizers, *schedules):
            stepper.step()
        report(Progress(step, len(batches), loss.item()))
    return model.eval()


def weighted_loss(
    logits: Float[Tensor, "batch pos d_vocab"],
    targets: Int[Tensor, "batch pos"],
    weights: Float[Tensor, "d_vocab"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats, each target counting as much as its token weighs."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), weight=weights)


def batch_by_length(
    rows: Sequence[list[int]], batch_tokens: int, rng: Random
) -> list[Int[Tensor, "batch pos"]]:
    """Put rows of one length together, at most `batch_tokens` at a time, and shuffle the batches.

    Every row is in exactly one batch; a length's last batch may be smaller.
    """
    by_length: dict[int, list[list[int]]] = defaultdict(list)
    for row in rows:
        by_length[len(row)].append(row)
    batches = []
    for length, same in sorted(by_length.items()):
        n_rows = max(1, batch_tokens // length)
        batches += [
            torch.tensor(same[start : start + n_rows]) for start in range(0, len(same), n_rows)
        ]
    rng.shuffle(batches)
    return batches


def _architecture(recipe: Recipe, d_vocab: int) -> GPT2Config:
    return GPT2Config(
        vocab_size=d_vocab,
        n_positions=recipe.n_ctx,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=EOS_ID,
        eos_token_id=EOS_ID,
    )


def _optimizers(model: GPT2LMHeadModel, recipe: Recipe) -> tuple[Optimizer, Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, biases and gains."""
    matrices = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return (
        Muon(matrices, lr=recipe.muon_lr),
        AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    )


def _schedule(optimizer: Optimizer, recipe: Recipe, n_steps: int) -> LambdaLR:
    n_warmup = max(1, round(recipe.warmup_frac * n_steps))

    def scale(step: int) -> float:
        return min((step + 1) / n_warmup, (n_steps - step) / max(1, n_steps - n_warmup))

    return LambdaLR(optimizer, scale)
