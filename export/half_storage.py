"""Weights that are halves anyway, stored as halves: the same float32 graph in fewer bytes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

LEAST = 1024  # elements: smaller ones are not worth a node


def store_halves(path: Path) -> None:
    """In the graph at `path`, store float32 weights whose every value is a half as float16 with a Cast.

    Nothing is rounded: weights of a checkpoint written by `rmgn.halve` are halves, those that the exporter
    folded a norm into are not any more and stay. Engines fold the Cast when they load the graph.
    """
    graph = onnx.load(str(path))
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halves, f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
