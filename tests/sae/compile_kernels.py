"""Compile Triton's kernels for an H100 as they are launched at a study's shapes; needs no GPU.

Prints each one's name. It must run where TRITON_INTERPRET is not set.
"""

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ghosttrack.sae import fused, triton_kernels

HOPPER = GPUTarget("cuda", 90, 32)
POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}


class Compiled:
    """Stands where a kernel is, and compiles it where that would be launched."""

    def __init__(self, kernel: triton.JITFunction):
        self.kernel, self.seen = kernel, set()

    def __getitem__(self, grid: object):
        return self.compile

    def compile(self, *arguments: object, **options: int) -> None:
        if options.get("UNIT") in self.seen:
            return  # another digit
        self.seen.add(options.get("UNIT"))
        if len(self.seen) == 1:
            print(self.kernel.__name__)  # noqa: T201
        names = self.kernel.arg_names
        constants = {(names.index(name),): options.pop(name) for name in names if name in options}
        kinds = [_kind(value) for value in arguments]
        constants |= {(i,): None for i, kind in enumerate(kinds) if kind == "constexpr"}
        kinds += ["constexpr"] * (len(names) - len(kinds))
        aligned = {
            (i,): [["tt.divisibility", 16]]
            for i, value in enumerate(arguments)
            if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0)
        }
        source = ASTSource(self.kernel, dict(zip(names, kinds, strict=True)), constants, aligned)
        assert triton.compile(source, target=HOPPER, options=options).asm["cubin"]


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return POINTERS[value.dtype]
    return "constexpr" if value is None else {int: "i32", float: "fp32"}[type(value)]


def main() -> None:
    for name, kernel in vars(triton_kernels).items():
        if isinstance(kernel, triton.JITFunction) and not name.startswith("_"):
            setattr(triton_kernels, name, Compiled(kernel))
    n_hooks, batch, d_model, d_sae, k = 24, 4096, 1024, 5120, 64
    with torch.device("meta"):
        pre = torch.empty(n_hooks, batch, d_sae, dtype=torch.bfloat16)
        inputs = torch.empty(n_hooks, batch, d_model)
        latents = torch.empty(n_hooks, d_sae, d_model, dtype=torch.bfloat16)
    chosen = fused.select(pre, k)
    fused.scatter(pre, chosen, fused.decode(chosen, latents, inputs, 0.1).d_values)
    fused.above(pre, fused.batch_cut(pre, k * batch, lambda counts: counts))
    with torch.device("meta"):
        rows, factor, correction = (
            torch.empty(n_hooks, d_sae, d_model),
            torch.empty(24),
            torch.empty(2),
        )
    move = fused.Move(1e-3, (0.9, 0.999), 1e-8, factor, correction)
    for is_unit, copy in ((True, latents), (False, None)):
        fused.square_rows(rows, rows, is_unit=is_unit)
        fused.adam_rows(rows, rows, (rows, rows), move, copy, is_unit=is_unit)


if __name__ == "__main__":
    main()
