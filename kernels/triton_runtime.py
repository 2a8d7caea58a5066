"""Triton where it is installed; every kernel module imports without it.

The kernels' functions launch them on a CUDA device and take the plain-torch references elsewhere. Their
operators (`*_op`), called by themselves, also run on CPU tensors, in Triton's interpreter, when
TRITON_INTERPRET=1 is set before the first import.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kernels.onnx_nodes import stays_operator

try:
    import triton
    import triton.language as tl

    AVAILABLE = True
    constexpr: Any = tl.constexpr
    jit: Callable[..., Any] = triton.jit
except ImportError:  # no wheels for this platform, such as aarch64
    triton = tl = None
    AVAILABLE = False
    constexpr = object

    def jit(function: Callable[..., Any]) -> Any:
        """Leave the kernel as it is: nothing will launch it."""
        return function


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

__all__ = [
    "AVAILABLE",
    "INTERPRETED",
    "accumulator",
    "constexpr",
    "jit",
    "on_its_device",
    "power_of_two",
    "runs_on",
    "tl",
    "triton",
]


def runs_on(tensor: Tensor) -> bool:
    """Whether the model should take the Triton kernel for this tensor.

    While exporting, within `kernels.onnx_nodes.fused_nodes()` alone: other graphs hold standard operators.
    """
    if torch.compiler.is_exporting():
        return stays_operator()
    return AVAILABLE and tensor.is_cuda and not torch.onnx.is_in_onnx_export()


def on_its_device(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Let an operator launch its kernels on its first tensor's GPU: Triton launches on the current one."""

    @functools.wraps(operator)
    def launch(first: Tensor, *rest: Any) -> Any:
        with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
            return operator(first, *rest)

    return launch


def accumulator(dtype: torch.dtype) -> Any:
    """The Triton dtype to sum in: float64 for float64, otherwise float32."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()
