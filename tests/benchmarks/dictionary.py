"""Whether a bank finds the features that made its activations.

Run:
    python -m tests.benchmarks.dictionary [--tokens 8000000] [--json FILE] [--device cuda]

Activations are sums of about 20 of 2,000 random unit vectors of 768 dimensions, each with a weight
of 1 to 2, none of them shared by chance alone. A feature counts as found if a decoder row has a
cosine of at least 0.9 with it.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ghosttrack.sae.bank import Bank, initialise, rows_sum
from ghosttrack.sae.config import SAEConfig
from ghosttrack.sae.loss import BankLoss
from ghosttrack.sae.optimiser import UnitNormAdam, learning_rate_factor
from tests.sae.support import sae_config

COSINE = 0.9


class World:
    """Features, and batches `[1 batch d_model]` of their sums."""

    def __init__(self, n_features: int, d_model: int, n_active: int, device: str) -> None:
        self.drawn = torch.Generator(device).manual_seed(0)
        features = torch.randn(n_features, d_model, generator=self.drawn, device=device)
        self.features, self.n_active = F.normalize(features, dim=-1), n_active

    def batch(self, n: int) -> Tensor:
        shape, device = (1, n, self.n_active), self.features.device
        live = torch.randint(len(self.features), shape, generator=self.drawn, device=device)
        weights = 1 + torch.rand(shape, generator=self.drawn, device=device)
        return rows_sum(weights, live, self.features[None])

    def found(self, bank: Bank) -> float:
        """Share of the features that a decoder row matches."""
        best = (self.features @ bank.directions[0].T).max(dim=1).values
        return float((best >= COSINE).double().mean())


def train(world: World, bank: Bank, config: SAEConfig, n_steps: int) -> list[float]:
    """Train, and return the FVU of the last ten steps."""
    initialise(bank, world.batch(8192).cpu())
    bank.to(world.features.device)
    loss = BankLoss(1, config).to(world.features.device)
    adam = UnitNormAdam(bank, config.lr, config.clip_norm)
    factor = learning_rate_factor(n_steps, config.warmup_frac, config.decay_frac)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, factor)
    last = []
    for step in range(n_steps):
        losses = loss(bank, world.batch(config.batch_size))
        adam.zero_grad()
        losses.loss.backward()
        adam.step()
        schedule.step()
        if step >= n_steps - 10:
            last.append(float(losses.fvu))
    return last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--tokens", type=int, default=8_000_000)
    parser.add_argument("--d-sae", type=int, default=4096)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--base-lr", type=float, default=5e-4)
    args = parser.parse_args()
    sizes = {name: getattr(args, name) for name in ("d_sae", "k", "batch_size", "base_lr")}
    config = sae_config(**sizes, warmup_frac=0.05, dead_after_tokens=500_000)
    torch.manual_seed(0)
    world = World(2000, 768, 20, args.device)
    bank = Bank(["layer_0"], 768, config.d_sae, config.k)
    started = time.perf_counter()
    fvu = train(world, bank, config, args.tokens // config.batch_size)
    seconds = time.perf_counter() - started
    result = {
        **{"tokens": args.tokens, **sizes},
        "found": round(world.found(bank), 4),
        "fvu": round(sum(fvu) / len(fvu), 5),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
