"""3x3 convolutions with a quarter of the multiplications, for OpenVINO on x86, which has none of its own.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks,
CVPR 2016): a tile of 4x4 results is Aᵀ((G g Gᵀ) ⊙ (Bᵀ d B))A, where d are the 6x6 inputs that it sees, g is
the kernel. For all channels and tiles ⊙ is a matrix product at each of the 36 positions.
"""

import platform

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from engines.protocol import Array

TILE, TAPS = 4, 6
_FORWARD = np.array(  # Bᵀ
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = np.array(  # G
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_INVERSE = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)  # Aᵀ


def pays(width_in: int, width_out: int, height: int, width: int) -> bool:
    """Whether a 3x3 convolution of height x width results is faster in this form.

    It saves 6.75·in·out multiply-adds a pixel and passes over in + out channels a few times more: their ratio
    decides, and measured, both forms are equally fast near 40 (docs/engine-notes.md). Of few tiles there is
    little to gain for kernels that take four times the memory.
    """
    whole = height % TILE == 0 and width % TILE == 0
    tiles = height * width // TILE**2
    return whole and tiles >= 48 and width_in * width_out / (width_in + width_out) > 40


def use_winograd(model: ov.Model) -> int:
    """Replace the convolutions of `model` that this pays for; the number of them.

    Those are float32, of batch 1 and static shape, 3x3, of stride and padding 1, with constant weights.
    Results move by some float32 roundings; the weights of these convolutions take four times the memory.
    Only x86: elsewhere OpenVINO's convolutions are others, and this is unmeasured.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return 0
    found = [node for node in model.get_ordered_ops() if _fits(node)]
    for node in found:
        weight = _constant(node.input_value(1))
        assert weight is not None
        node.output(0).replace(_winograd(node.input_value(0), weight).output(0))
    return len(found)


def _fits(node: ov.Node) -> bool:
    if node.get_type_name() != "Convolution" or node.get_element_type() != ov.Type.f32:
        return False
    shape = node.get_output_partial_shape(0)
    weight = _constant(node.input_value(1))
    if shape.is_dynamic or shape.rank.get_length() != 4 or weight is None or weight.shape[2:] != (3, 3):
        return False
    batch, _, height, width = shape.to_shape()
    attributes = node.get_attributes()
    plain = all(
        list(attributes[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end")
    )
    return batch == 1 and plain and pays(weight.shape[1], weight.shape[0], height, width)


def _constant(value: ov.Output) -> Array | None:
    """The value of a constant, or of one that is stored as float16."""
    node = value.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return np.asarray(node.data, np.float32) if node.get_type_name() == "Constant" else None


def _winograd(x: ov.Output, weight: Array) -> ov.Node:
    """The convolution of x with weight [out, in, 3, 3].

    Nothing is copied where OpenVINO holds channels last: positions are the batch of a concatenation and of
    one matrix product, channels stay innermost.
    """
    width_out, width_in = weight.shape[:2]
    positions = []
    for row in _FORWARD:
        rows = _strided(x, row, width_in, axis=0)
        positions += [_strided(rows.output(0), column, width_in, axis=1) for column in _FORWARD]
    tiles = ops.concat(positions, 0)
    _, _, high, wide = tiles.get_output_shape(0)
    tiles = ops.reshape(ops.transpose(tiles, [0, 2, 3, 1]), [TAPS**2, high * wide, width_in], False)
    taps = weight.transpose(2, 3, 1, 0).reshape(9, -1)
    kernels = (_float32(np.kron(_KERNEL, _KERNEL)) @ taps).reshape(TAPS**2, width_in, width_out)
    products = ops.matmul(tiles, kernels, False, False)
    inverse = _float32(np.kron(_INVERSE, _INVERSE))
    results = ops.matmul(inverse, ops.reshape(products, [TAPS**2, -1], False), False, False)
    results = ops.reshape(results, [TILE, TILE, high, wide, width_out], False)
    results = ops.transpose(results, [2, 0, 3, 1, 4])
    results = ops.reshape(results, [1, high * TILE, wide * TILE, width_out], False)
    return ops.transpose(results, [0, 3, 1, 2])


def _strided(x: ov.Output, taps: Array, channels: int, axis: int) -> ov.Node:
    """Along one axis, a weighted sum of six neighbours for each tile, with zeros outside the picture."""
    along = [1, 1]
    along[axis] = TAPS
    weight = np.broadcast_to(taps.reshape(1, 1, 1, *along), (channels, 1, 1, *along))
    stride = [TILE if i == axis else 1 for i in range(2)]
    padding = [int(i == axis) for i in range(2)]
    return ops.group_convolution(x, _float32(weight), stride, padding, padding, [1, 1])


def _float32(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32)
