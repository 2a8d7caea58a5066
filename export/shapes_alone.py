"""Passes through a float16 network for its shapes alone, as tracing needs them."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def shapes_alone(module: nn.Module) -> Iterator[None]:
    """Convolutions of a float16 module on the CPU give zeros of the right shape in this context.

    A trace records operations, not values, and CPUs without float16 instructions take 200 times as long for
    convolutions of halves (256 channels at 64×48: 6.1 against 0.03 s, an EPYC with AVX-512).
    """
    if next(module.parameters()).dtype != torch.float16:
        yield
        return
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    library.impl("_convolution", _zeros, "CPU")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


def _zeros(x: Tensor, weight: Tensor, bias: Tensor | None, *places: object) -> Tensor:
    """places: stride, padding, dilation, transposed, output_padding, groups, and PyTorch's flags."""
    tracing = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]  # what happens here is no part of the graph
    try:
        meta = [None if t is None else t.to("meta") for t in (x, weight, bias)]
        shape = torch.ops.aten.convolution.default(*meta, *places[:6]).shape
        return torch.zeros(shape, dtype=x.dtype)
    finally:
        torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]
