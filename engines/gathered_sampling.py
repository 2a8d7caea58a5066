"""GridSample spelled out, for a library whose own computes something else.

TensorRT's has sampled the nearest pixel where bilinear was asked for, and misplaced float32 samples inside
half networks (tensorrt_build says when this form is taken). Numbers come out as GridSample's, to float32's
rounding.
"""

import onnx
import onnx.inliner
import onnx.parser
from onnx import helper

from engines.tensor_shapes import tensor_shapes

DOMAIN = "rmgn.gathered"

# What export.sampling leaves, and GridSample's defaults: zeros beyond the border, which is at -1 and 1.
EXPECTED = {"mode": b"bilinear", "padding_mode": b"zeros", "align_corners": 0}


def gather_samples(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without GridSample. Shapes must be fixed, with batch 1.

    Raises ValueError where a GridSample is not as EXPECTED.
    """
    model = onnx.shape_inference.infer_shapes(model)
    shapes = tensor_shapes(model)
    functions: dict[str, onnx.FunctionProto] = {}
    for node in model.graph.node:
        if node.op_type != "GridSample":
            continue
        options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if (options := {**EXPECTED, **options}) != EXPECTED:
            raise ValueError(f"{node.name} samples with {options}, which is not known as gathers")
        sizes = [*shapes[node.input[0]], *shapes[node.input[1]][1:3]]
        node.op_type = "Sample_" + "_".join(map(str, sizes))
        node.domain = DOMAIN
        del node.attribute[:]
        functions.setdefault(node.op_type, _sample(node.op_type, *sizes))
    model.functions.extend(functions.values())
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    # Bundles go up to opset 19; functions of another one would stay.
    return onnx.inliner.inline_local_functions(model, convert_version=True)


def _sample(
    name: str, batch: int, channels: int, height: int, width: int, rows: int, columns: int
) -> onnx.FunctionProto:
    """GridSample of features [1, channels, height, width] at a grid [1, rows, columns, 2].

    A rim of zeros saves the comparisons at the border: a sample beyond it is clamped to the rim. The four
    corners of each sample are gathered at once, each weighted 1 - |distance| on both axes.
    """
    if batch != 1:
        raise ValueError(f"the features of {name} are a batch of {batch}")
    row = width + 2  # with the rim
    return onnx.parser.parse_function(f"""<domain: "{DOMAIN}", opset_import: ["" : 17]>
    {name} (features, grid) => (out) {{
        wide = Cast<to = 1>(features)
        pads = Constant<value_ints = [0, 0, 1, 1, 0, 0, 1, 1]>()
        rimmed = Pad(wide, pads)
        plane = Constant<value_ints = [{channels}, {(height + 2) * row}]>()
        pixels = Reshape(rimmed, plane)

        half = Constant<value_floats = [{width / 2}, {height / 2}]>()
        centre = Constant<value_floats = [{(width + 1) / 2}, {(height + 1) / 2}]>()
        first = Constant<value_floats = [0.0, 0.0]>()
        last = Constant<value_floats = [{width + 1.0}, {height + 1.0}]>()
        wide_grid = Cast<to = 1>(grid)
        scaled = Mul(wide_grid, half)
        moved = Add(scaled, centre)
        kept = Max(moved, first)
        position = Min(kept, last)

        before = Constant<value_floats = [{float(width)}, {float(height)}]>()
        whole = Floor(position)
        corner = Min(whole, before)
        steps = Constant<value_floats = [1.0, {float(row)}]>()
        stepped = Mul(corner, steps)
        behind = Constant<value_ints = [-1]>()
        place = ReduceSum<keepdims = 0>(stepped, behind)
        line = Constant<value_ints = [1, {rows * columns}]>()
        places = Reshape(place, line)
        index = Cast<to = 7>(places)
        four = Constant<value_ints = [0, 1, {row}, {row + 1}]>()
        one_each = Constant<value_ints = [1]>()
        of_four = Unsqueeze(four, one_each)
        indices = Add(index, of_four)
        corners = Gather<axis = 1>(pixels, indices)

        share = Sub(position, corner)
        samples = Constant<value_ints = [{rows * columns}, 2]>()
        shares = Reshape(share, samples)
        by_axis = Transpose<perm = [1, 0]>(shares)
        share_x, share_y = Split<axis = 0>(by_axis)
        corners_x = Constant<value_floats = [0.0, 1.0, 0.0, 1.0]>()
        corners_y = Constant<value_floats = [0.0, 0.0, 1.0, 1.0]>()
        at_x = Unsqueeze(corners_x, one_each)
        at_y = Unsqueeze(corners_y, one_each)
        apart_x = Sub(at_x, share_x)
        apart_y = Sub(at_y, share_y)
        distance_x = Abs(apart_x)
        distance_y = Abs(apart_y)
        one = Constant<value_float = 1.0>()
        weight_x = Sub(one, distance_x)
        weight_y = Sub(one, distance_y)
        weight = Mul(weight_x, weight_y)

        weighted = Mul(corners, weight)
        total = ReduceSum<keepdims = 0>(weighted, one_each)
        picture = Constant<value_ints = [1, {channels}, {rows}, {columns}]>()
        sampled = Reshape(total, picture)
        out = CastLike(sampled, features)
    }}""")
