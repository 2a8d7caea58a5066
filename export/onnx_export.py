"""One module to one portable ONNX file: opset 17, simplified, checked."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxsim
import torch
from torch import Tensor, nn

from export.fused_graph import add_functions
from export.sampling import sample_inside
from export.shapes_alone import shapes_alone
from kernels.onnx_nodes import DOMAIN, fused_nodes

# TensorRT samples GridSample nearest, without a word, from opset 20 on; 17 is what every engine takes.
OPSET = 17


def export_onnx(
    module: nn.Module, feeds: Mapping[str, Tensor], outputs: Sequence[str], path: Path, fused: bool = False
) -> None:
    """Write `module`, called with the values of `feeds`, to `path`. Shapes are fixed to those of `feeds`.

    fused: write the operations of `kernels` as nodes of their own, with function bodies (export.fused_graph).
    """
    nodes = fused_nodes() if fused else contextlib.nullcontext()
    with torch.no_grad(), warnings.catch_warnings(), nodes, shapes_alone(module):
        # The newer exporter starts at opset 18 and cannot convert this network down to 17.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(feeds.values()),
            str(path),
            input_names=list(feeds),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
            custom_opsets={DOMAIN: 1} if fused else None,
            autograd_inlining=False,
        )
    # That results stay the same is for export.parity to show.
    graph, _ = onnxsim.simplify(onnx.load(str(path)))
    if fused:
        add_functions(graph)
    graph = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True, data_prop=True)
    sample_inside(graph)
    graph = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True, data_prop=True)
    graph.producer_name, graph.doc_string = "rmgn", ""
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
