"""The fused operations as nodes of an exported graph, in the project's own domain.

Within `fused_nodes()` the ONNX exporter writes one node for each operation (three for a mask fusion) instead
of the standard operators of its reference. TensorRT runs the nodes with kernels.tensorrt_plugins; other
runtimes run the function bodies that export.fused_graph puts beside them. A torch program exported so
calls the Triton kernels, and runs on a GPU alone.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

DOMAIN = "rmgn"  # of the ONNX nodes, and TensorRT's namespace of the plugins

_emit = ContextVar("emit", default=False)


@contextlib.contextmanager
def fused_nodes() -> Iterator[None]:
    """Export the fused operations as nodes of DOMAIN."""
    token = _emit.set(True)
    try:
        yield
    finally:
        _emit.reset(token)


def emits_nodes() -> bool:
    """Whether an operation called now is to become nodes of DOMAIN."""
    return torch.onnx.is_in_onnx_export() and _emit.get()  # in this order: torch.compile cannot follow `get`


def stays_operator() -> bool:
    """Whether an operation called now is to stay one operator, `torch.ops.rmgn.…`, of a torch program."""
    return torch.compiler.is_exporting() and _emit.get()


def sizes(tensor: Tensor) -> list[int]:
    """The shape as plain numbers, also while tracing."""
    return [int(size) for size in tensor.shape]


def node(graph: Any, name: str, inputs: Sequence[Any], *shapes: Sequence[int], dtype: Any = None) -> Any:
    """Append `DOMAIN::name` to a graph that is being exported; its outputs have these shapes.

    dtype: of the outputs, that of the first input where None.
    """
    # With this attribute TensorRT's parser prefers the plugin to a function of the same name.
    outputs = graph.op(f"{DOMAIN}::{name}", *inputs, plugin_namespace_s=DOMAIN, outputs=len(shapes))
    kind = inputs[0].type() if dtype is None else inputs[0].type().with_dtype(dtype)
    for output, shape in zip(outputs if len(shapes) > 1 else [outputs], shapes, strict=True):
        output.setType(kind.with_sizes(list(shape)))
    return outputs
