"""What a bank's training takes, worked out before it starts."""

from typing import NamedTuple

from ghosttrack.sae.config import Architecture

STATE_BYTES = 16
"""Of a parameter: weight, gradient and Adam's two moments, all fp32."""


class Plan(NamedTuple):
    """One rank's training."""

    n_hooks: int
    """Hook points that this rank trains."""
    n_together: int
    """Hook points that pass through a step at once: one on a CPU, all on a GPU."""
    d_model: int
    d_sae: int
    n_rows: int
    """Tokens of a batch that this rank gets."""

    @property
    def n_parameters(self) -> int:
        """Count weights and biases.

        >>> Plan(24, 24, d_model=1024, d_sae=5120, n_rows=4096).n_parameters
        251805696
        """
        return self.n_hooks * (2 * self.d_model * self.d_sae + self.d_sae + self.d_model)

    @property
    def state_bytes(self) -> int:
        """Count what stays in memory from step to step.

        >>> Plan(24, 24, d_model=1024, d_sae=5120, n_rows=4096).state_bytes
        4028891136
        """
        return STATE_BYTES * self.n_parameters

    @property
    def point_bytes(self) -> int:
        """Count what a resume point holds: weights and Adam's two moments.

        >>> Plan(24, 24, d_model=1024, d_sae=5120, n_rows=4096).point_bytes
        3021668352
        """
        return 12 * self.n_parameters

    @property
    def step_bytes(self) -> int:
        """Count the tensors of a step: fp32 pre-activations, and batch, inputs, error, gradient.

        The weights' gradients are in `state_bytes`, AuxK's and top-k's smaller ones are left out.

        >>> Plan(24, 24, d_model=1024, d_sae=5120, n_rows=4096).step_bytes
        3623878656
        """
        return 4 * self.n_together * self.n_rows * (self.d_sae + 4 * self.d_model)

    def describe(self, n_steps: int, batch_size: int, n_distinct: int) -> str:
        """Say in one line what training takes, but for the time.

        >>> said = Plan(24, 24, 1024, 5120, 4096).describe(10_000, 4096, 10_000_000)
        >>> for part in said.split("; "):
        ...     print(part)
        251.8M parameters, 4.03 GB with gradients and Adam, about 3.62 GB more in a step, per rank
        10,000 steps of 4,096 tokens: 41.0M, or 4.1 times each of 10.0M
        1.01 GB on the disk, before that two resume points of 3.02 GB
        """
        n_tokens = n_steps * batch_size
        return (
            f"{self.n_parameters / 1e6:.1f}M parameters, {self.state_bytes / 1e9:.2f} GB with"
            f" gradients and Adam, about {self.step_bytes / 1e9:.2f} GB more in a step, per rank;"
            f" {n_steps:,} steps of {batch_size:,} tokens: {n_tokens / 1e6:.1f}M, or"
            f" {n_tokens / n_distinct:.1f} times each of {n_distinct / 1e6:.1f}M;"
            f" {4 * self.n_parameters / 1e9:.2f} GB on the disk, before that two resume points of"
            f" {self.point_bytes / 1e9:.2f} GB"
        )


def bank_bytes(n_hooks: int, d_model: int, d_sae: int, architecture: Architecture) -> int:
    """Count the bytes of a saved bank's tensors.

    >>> bank_bytes(6, d_model=128, d_sae=512, architecture=Architecture.topk)
    3161088
    """
    n_thresholds = 0 if architecture is Architecture.topk else d_sae
    return 4 * n_hooks * (2 * d_model * d_sae + d_sae + d_model + n_thresholds)
