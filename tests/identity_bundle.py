"""Writes a bundle whose network is known by heart: the garment comes to lie as it lies in its photo.

A real bundle with real ONNX graphs, small enough to run in a millisecond, so that tests of everything around
the network can tell what each pixel must be.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines import TensorSpec
from engines.bundle import MANIFEST, Bundle, Graph, sha256

LEVELS = 5


def write_identity_bundle(folder: Path, height: int = 64, width: int = 48, shift: float = 0.0) -> Path:
    """Write the bundle and return its folder.

    flow: the identity, moved right by `shift` (in [-1, 1] units). composite_mask: the warped garment mask.
    rendered: the person. tryon: mask * warped garment + (1 - mask) * person.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image, plane = (1, 3, height, width), (1, 1, height, width)
    garment = (TensorSpec("garment", image, -1, 1), TensorSpec("garment_mask", plane, 0, 1))
    pyramid = tuple(TensorSpec(f"pyramid_{level}", (1, 1, 1 << level, 1 << level)) for level in range(LEVELS))
    outputs = (
        TensorSpec("flow", (1, 2, height, width)),
        TensorSpec("rendered", image, -1, 1),
        TensorSpec("composite_mask", plane, 0, 1),
        TensorSpec("tryon", image, -1, 1),
    )
    person = TensorSpec("person", image, -1, 1)

    levels = [
        helper.make_node(
            "Resize", ["garment_mask", "", "", f"size_{level}"], [f"pyramid_{level}"], mode="nearest"
        )
        for level in range(LEVELS)
    ]
    sizes = {f"size_{level}": np.array([1, 1, 1 << level, 1 << level], np.int64) for level in range(LEVELS)}

    y, x = np.mgrid[:height, :width].astype(np.float32)
    flow = np.stack([(2 * x + 1) / width - 1 - shift, (2 * y + 1) / height - 1])[None]
    # The pyramid takes part with weight 0, so that a run without it fails as the true network's would.
    nodes = [
        *(helper.make_node("ReduceSum", [spec.name], [f"sum_{spec.name}"]) for spec in pyramid),
        helper.make_node("Sum", [f"sum_{spec.name}" for spec in pyramid], ["sum"]),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["identity", "nothing"], ["flow"]),
        helper.make_node("Transpose", ["flow"], ["grid"], perm=[0, 2, 3, 1]),
        helper.make_node(
            "GridSample", ["garment", "grid"], ["warped"], padding_mode="border", align_corners=0
        ),
        helper.make_node("GridSample", ["garment_mask", "grid"], ["composite_mask"], align_corners=0),
        helper.make_node("Identity", ["person"], ["rendered"]),
        helper.make_node("Sub", ["warped", "person"], ["change"]),
        helper.make_node("Mul", ["composite_mask", "change"], ["change_shown"]),
        helper.make_node("Add", ["person", "change_shown"], ["tryon"]),
    ]
    constants = {"identity": flow.astype(np.float32), "zero": np.zeros((), np.float32)}
    graphs = {
        "garment": save(folder / "garment.onnx", levels, garment, pyramid, sizes),
        "tryon": save(folder / "tryon.onnx", nodes, (person, *garment, *pyramid), outputs, constants),
    }
    bundle = Bundle(folder, {"preset": "identity"}, height, width, "float32", 17, graphs)
    (folder / MANIFEST).write_text(bundle.to_json(), encoding="utf-8")
    return folder


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    constants: Mapping[str, NDArray[Any]],
) -> Graph:
    """Write one graph and describe it."""

    def values(specs: tuple[TensorSpec, ...]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape) for spec in specs]

    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, values(inputs), values(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return Graph(path.name, sha256(path), inputs, outputs)


if __name__ == "__main__":
    write_identity_bundle(Path(sys.argv[1]), 256, 192)
