"""GridSample in the form that every engine runs fast."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.tensor_shapes import tensor_shapes


def sample_inside(model: onnx.ModelProto) -> None:
    """Clamp the positions of every GridSample that repeats the border; it then pads with zeros, unseen.

    Between the outermost pixel centres both paddings read the same. ONNX Runtime has a fast path for zeros
    alone, four times as fast; the other engines do not mind. `model` must carry inferred shapes.
    """
    graph = model.graph
    shapes = tensor_shapes(model)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if (
            node.op_type == "GridSample"
            and options.get("padding_mode") == b"border"
            and not options.get("align_corners")
        ):
            height, width = shapes[node.input[0]][2:]
            # Some roundings inside the centres of the outermost pixels, lest one end outside and mix in zero.
            limit = (1 - 1 / np.array([width, height]) - 4 * np.finfo(np.float32).eps).astype(np.float32)
            limit = np.maximum(limit, 0)  # one pixel alone has its centre at 0
            for name, values, operator in (("low", -limit, "Max"), ("high", limit, "Min")):
                constant, clamped = f"{node.name}/{name}", f"{node.name}/{operator}"
                graph.initializer.append(numpy_helper.from_array(values, constant))
                nodes.append(helper.make_node(operator, [node.input[1], constant], [clamped], clamped))
                node.input[1] = clamped
            padding = next(attribute for attribute in node.attribute if attribute.name == "padding_mode")
            padding.s = b"zeros"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
