"""Tokens shared out among the processes of one training run."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch import distributed as dist


class Deal(NamedTuple):
    """Which rank gets which tokens of a chunk, and in what order."""

    rank: int
    """This process's."""
    world_size: int
    mine: Int64[np.ndarray, " row"]
    """This rank's tokens, in the order in which they are handed out."""
    ranks: Int64[np.ndarray, " token"]
    """The rank of each token."""
    rows: Int64[np.ndarray, " token"]
    """The place of each token among those of its rank."""


def deal(order: Int64[np.ndarray, " token"], start: int, rank: int, world_size: int) -> Deal:
    """Deal tokens in turn: the i-th of `order` goes to rank `(start + i) % world_size`.

    >>> deal(np.array([2, 0, 1]), start=4, rank=1, world_size=2).mine.tolist()
    [0]
    """
    seats = np.empty_like(order)
    seats[order] = np.arange(len(order))
    mine = order[(rank - start) % world_size :: world_size]
    return Deal(rank, world_size, mine, (start + seats) % world_size, seats // world_size)


def exchange(
    acts: Float[Tensor, "row hook d_model"],
    send: Int64[np.ndarray, " rank"],
    receive: Int64[np.ndarray, " rank"],
) -> Float[Tensor, "received hook d_model"]:
    """Give every rank its rows and get this rank's; every rank calls it at the same point.

    Rows travel as bytes, for gloo has no bf16, and over the memory that the process group uses.

    Args:
        acts: Rows by destination in ascending order.
        send: How many go to each rank.
        receive: How many come from each rank; they arrive in that order.
    """
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    outgoing = acts.to(device).contiguous().view(torch.uint8)
    incoming = outgoing.new_empty(int(receive.sum()), *outgoing.shape[1:])
    dist.all_to_all_single(incoming, outgoing, receive.tolist(), send.tolist())
    return incoming.view(acts.dtype).to(acts.device)


def least(number: int) -> int:
    """Return the least of the ranks' numbers; every rank calls it at the same point."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    held = torch.tensor(number, device=device)
    dist.all_reduce(held, dist.ReduceOp.MIN)
    return int(held)
