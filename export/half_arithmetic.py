"""Convolutions of halves by way of float32, for passes through a float16 graph on a CPU."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


@contextlib.contextmanager
def halves_in_float32() -> Iterator[None]:
    """Convolutions on the CPU take and give halves in this context, but compute in float32.

    A CPU without float16 instructions takes 200 times as long for a convolution of halves (256 channels at
    64×48: 6.1 against 0.03 s, an EPYC with AVX-512). Traces do not see it: it acts below what they record.
    """
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    library.impl("convolution", _convolution, "CPU")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    wide_bias = None if bias is None else bias.float()
    places = (stride, padding, dilation, transposed, output_padding, groups)
    flags = (
        False,
        False,
        True,
        True,
    )  # benchmark, deterministic, cudnn_enabled, allow_tf32
    wide: Tensor = torch.ops.aten._convolution.default(x.float(), weight.float(), wide_bias, *places, *flags)
    return wide.to(x.dtype)
