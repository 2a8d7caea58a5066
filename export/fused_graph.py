"""Function bodies for the nodes of kernels.onnx_nodes, so that any runtime can run a fused graph.

Each body computes what the kernel of that name does, in standard operators of opset 17 and for any shape:
float32 inside, as the kernels sum, whatever the type of features. ONNX Runtime inlines them. TensorRT
takes the plugins of kernels.tensorrt_plugins instead; OpenVINO, which knows no functions, the portable graph.
"""

import onnx
import onnx.parser

from kernels.local_correlation import RADIUS, SLOPE
from kernels.mask_fusion_op import EPSILON
from kernels.onnx_nodes import DOMAIN

WINDOW = 2 * RADIUS + 1


def _flow_warp(padding: str) -> str:
    return f"""(features, flow) => (out) {{
        wide = CastLike(features, flow)
        grid = Transpose<perm = [0, 2, 3, 1]>(flow)
        sampled = GridSample<mode = "bilinear", padding_mode = "{padding}", align_corners = 0>(wide, grid)
        out = CastLike(sampled, features)
    }}"""


def _compose_flow(corners: bool) -> str:
    """kernels.identity_flow moved by the offset, and the flow sampled there."""

    def axis(a: str, dimension: int) -> str:
        centres_rule = f"""
        pixel_{a} = Div(two, size_{a})
        twice_{a} = Mul(two, index_{a})
        centre_{a} = Add(twice_{a}, one)
        scaled_{a} = Div(centre_{a}, size_{a})"""
        corners_rule = f"""
        last_{a} = Sub(size_{a}, one)
        span_{a} = Max(last_{a}, one)
        pixel_{a} = Div(two, span_{a})
        scaled_{a} = Mul(index_{a}, pixel_{a})"""
        return f"""
        length_{a} = Shape<start = {dimension}, end = {dimension + 1}>(offset)
        count_{a} = Squeeze(length_{a})
        size_{a} = CastLike(count_{a}, one)
        steps_{a} = Range(first, count_{a}, step)
        index_{a} = CastLike(steps_{a}, one){corners_rule if corners else centres_rule}
        place_{a} = Sub(scaled_{a}, one)"""

    return f"""(flow, offset) => (out) {{
        one = Constant<value_float = 1.0>()
        two = Constant<value_float = 2.0>()
        first = Constant<value_int = 0>()
        step = Constant<value_int = 1>(){axis("x", 3)}{axis("y", 2)}
        behind = Constant<value_ints = [1]>()
        column = Unsqueeze(place_y, behind)
        moves_x, moves_y = Split<axis = 1>(offset)
        shift_x = Mul(moves_x, pixel_x)
        shift_y = Mul(moves_y, pixel_y)
        moved_x = Add(shift_x, place_x)
        moved_y = Add(shift_y, column)
        moved = Concat<axis = 1>(moved_x, moved_y)
        grid = Transpose<perm = [0, 2, 3, 1]>(moved)
        out = GridSample<mode = "bilinear", padding_mode = "border", align_corners = 0>(flow, grid)
    }}"""


def _local_correlation() -> str:
    """The window's products one by one: slices of the padded person from d to d + H and d + W."""
    steps = []
    for place in range(WINDOW * WINDOW):
        shift = (place // WINDOW, place % WINDOW)
        # Counted from the end, which needs no shape; the last one reaches it.
        ends = [s - 2 * RADIUS if s < 2 * RADIUS else 2**62 for s in shift]
        steps.append(f"""
        from_{place} = Constant<value_ints = [{shift[0]}, {shift[1]}]>()
        to_{place} = Constant<value_ints = [{ends[0]}, {ends[1]}]>()
        moved_{place} = Slice(padded, from_{place}, to_{place}, axes)
        product_{place} = Mul(wide_garment, moved_{place})
        mean_{place} = ReduceMean<axes = [1], keepdims = 1>(product_{place})""")
    means = ", ".join(f"mean_{place}" for place in range(WINDOW * WINDOW))
    return f"""(garment, person) => (out) {{
        pads = Constant<value_ints = [0, 0, {RADIUS}, {RADIUS}, 0, 0, {RADIUS}, {RADIUS}]>()
        axes = Constant<value_ints = [2, 3]>()
        wide_garment = Cast<to = 1>(garment)
        wide_person = Cast<to = 1>(person)
        padded = Pad(wide_person, pads){"".join(steps)}
        window = Concat<axis = 1>({means})
        leaky = LeakyRelu<alpha = {SLOPE}>(window)
        out = CastLike(leaky, garment)
    }}"""


_STATISTICS = f"""(h) => (mean, rstd) {{
        wide = Cast<to = 1>(h)
        centre = ReduceMean<axes = [2, 3], keepdims = 1>(wide)
        off = Sub(wide, centre)
        square = Mul(off, off)
        variance = ReduceMean<axes = [2, 3], keepdims = 0>(square)
        epsilon = Constant<value_float = {EPSILON}>()
        shifted = Add(variance, epsilon)
        deviation = Sqrt(shifted)
        rstd = Reciprocal(deviation)
        mean = ReduceMean<axes = [2, 3], keepdims = 0>(wide)
    }}"""

_NORMALISE = """
        plane = Constant<value_ints = [2, 3]>()
        wide = Cast<to = 1>(h)
        mu = Unsqueeze(mean, plane)
        r = Unsqueeze(rstd, plane)
        off = Sub(wide, mu)
        n = Mul(off, r)"""

_MASK = f"""(h, mean, rstd, weight, bias) => (mask) {{{_NORMALISE}
        wide_weight = Cast<to = 1>(weight)
        between = Constant<value_ints = [1, 2]>()
        of_channel = Unsqueeze(wide_weight, between)
        weighted = Mul(n, of_channel)
        channel = Constant<value_ints = [1]>()
        total = ReduceSum<keepdims = 1>(weighted, channel)
        wide_bias = Cast<to = 1>(bias)
        logit = Add(total, wide_bias)
        probability = Sigmoid(logit)
        mask = CastLike(probability, h)
    }}"""


def _blend(residual: bool) -> str:
    def side(name: str) -> str:
        scale = f"Add(one, wide_{name})" if residual else f"Identity(wide_{name})"
        return f"""
        wide_{name} = Cast<to = 1>(gamma_{name})
        scale_{name} = {scale}
        shift_{name} = Cast<to = 1>(beta_{name})
        scaled_{name} = Mul(n, scale_{name})
        {name} = Add(scaled_{name}, shift_{name})"""

    inputs = "h, gamma_person, beta_person, gamma_garment, beta_garment, mask, mean, rstd"
    return f"""({inputs}) => (out) {{{_NORMALISE}
        one = Constant<value_float = 1.0>(){side("person")}{side("garment")}
        m = Cast<to = 1>(mask)
        difference = Sub(garment, person)
        change = Mul(m, difference)
        blended = Add(person, change)
        out = CastLike(blended, h)
    }}"""


BODIES = {
    "FlowWarpBorder": _flow_warp("border"),
    "FlowWarpZeros": _flow_warp("zeros"),
    "ComposeFlowCentres": _compose_flow(corners=False),
    "ComposeFlowCorners": _compose_flow(corners=True),
    "LocalCorrelation": _local_correlation(),
    "PlaneStatistics": _STATISTICS,
    "RegionalMask": _MASK,
    "Blend": _blend(residual=False),
    "BlendResidual": _blend(residual=True),
}


def function(name: str) -> onnx.FunctionProto:
    """The body of one node of DOMAIN."""
    header = f'<domain: "{DOMAIN}", opset_import: ["" : 17]>'
    # The attribute is for TensorRT's parser; a function has to declare what its nodes carry.
    return onnx.parser.parse_function(f'{header} {name}<plugin_namespace: string = "{DOMAIN}">{BODIES[name]}')


def add_functions(model: onnx.ModelProto) -> None:
    """Give `model` the bodies of the nodes of DOMAIN that it holds."""
    used = sorted({node.op_type for node in model.graph.node if node.domain == DOMAIN})
    del model.functions[:]
    model.functions.extend(function(name) for name in used)
