"""One module to one portable ONNX file: opset 17, simplified, checked."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxsim
import torch
from torch import Tensor, nn

# TensorRT samples GridSample nearest, without a word, from opset 20 on; 17 is what every engine takes.
OPSET = 17


def export_onnx(module: nn.Module, feeds: Mapping[str, Tensor], outputs: Sequence[str], path: Path) -> None:
    """Write `module`, called with the values of `feeds`, to `path`. Shapes are fixed to those of `feeds`."""
    with torch.no_grad(), warnings.catch_warnings():
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
        )
    graph, _ = onnxsim.simplify(
        onnx.load(str(path))
    )  # that results stay the same is for export.parity to show
    graph = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True, data_prop=True)
    graph.producer_name, graph.doc_string = "rmgn", ""
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
