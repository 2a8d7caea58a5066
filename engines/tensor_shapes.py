"""The shapes that an ONNX graph says its tensors have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def tensor_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Of inputs, results, and what was inferred between them; 0 for an axis of no fixed length."""
    graph = model.graph
    return {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info, *graph.output]
    }
