"""3x3 convolutions with fewer multiplications, for OpenVINO on x86, which has none of its own.

Winograd's minimal filtering (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016):
a tile of 4x4 results is Aᵀ((G g Gᵀ) ⊙ (Bᵀ d B))A, where d are the 6x6 inputs that it sees, g is the kernel.
For all channels and tiles ⊙ is a matrix product at each of the 36 positions.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from engines.protocol import Array

X86 = platform.machine().lower() in ("x86_64", "amd64")


@dataclass(frozen=True)
class Filtering:
    """The matrices of F(tile x tile, 3x3)."""

    data: Array  # Bᵀ, [tile + 2, tile + 2]
    kernel: Array  # G, [tile + 2, 3]
    inverse: Array  # Aᵀ, [tile, tile + 2]

    @property
    def tile(self) -> int:
        return len(self.inverse)


SMALL = Filtering(
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32),
    np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]], np.float32),
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32),
)
LARGE = Filtering(
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        np.float32,
    ),
    np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        np.float32,
    ),
    np.array(
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
    ),
)


def choose(width_in: int, width_out: int, height: int, width: int) -> Filtering | None:
    """What computes a 3x3 convolution of height x width results faster than as it is, if anything.

    Tiles of 4x4 save 6.75·in·out multiply-adds a pixel, tiles of 2x2 save 5·in·out, and both pass over
    in + out channels a few times more: the ratio decides. Below 40, and for 2x2, which pass over more, below
    150, little or nothing is gained (benchmarks/winograd.py). Where tiles are few, reading the kernels takes
    much of the time, and those for 4x4 are four times as large as the convolution's own.
    """
    ratio = width_in * width_out / (width_in + width_out)
    for filtering, least in ((LARGE, 40), (SMALL, 150)):
        tile = filtering.tile
        whole = height % tile == 0 and width % tile == 0
        if whole and height * width // tile**2 >= 48 and ratio > least:
            return filtering
    return None


Rule = Callable[[int, int, int, int], Filtering | None]  # as `choose`


def use_winograd(model: ov.Model, rule: Rule = choose) -> int:
    """Replace the convolutions of `model` that the rule has a filtering for; the number of them.

    It is asked about those that are 3x3, of batch 1, static shape, stride and padding 1, with constant
    weights; float16 ones are computed in float32, as OpenVINO does on a CPU. Results move by some float32
    roundings; these weights take up to four times the memory.
    Only x86: elsewhere OpenVINO's convolutions are others, and this is unmeasured.
    """
    if not X86:
        return 0
    replaced = 0
    for node in model.get_ordered_ops():
        weight = _weight(node)
        if weight is None:
            continue
        filtering = rule(weight.shape[1], weight.shape[0], *node.get_output_shape(0)[2:])
        if filtering is not None:
            x = _cast(node.input_value(0), "f32")
            result = _winograd(x, weight.astype(np.float32, copy=False), filtering)
            node.output(0).replace(_cast(result.output(0), node.get_element_type().to_string()))
            replaced += 1
    return replaced


def _weight(node: ov.Node) -> NDArray[Any] | None:
    """[out, in, 3, 3] of a convolution that can be replaced, float32 or as stored, float16; else None."""
    if node.get_type_name() != "Convolution" or node.get_element_type() not in (ov.Type.f32, ov.Type.f16):
        return None
    constant = node.input_value(1).get_node()
    if constant.get_type_name() == "Convert":
        constant = constant.input_value(0).get_node()
    shape = node.get_output_partial_shape(0)
    if constant.get_type_name() != "Constant" or shape.is_dynamic or shape.to_shape()[0] != 1:
        return None
    attributes = node.get_attributes()
    ones = all(
        list(attributes[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end")
    )
    return constant.data if ones and constant.data.shape[2:] == (3, 3) else None


def _winograd(x: ov.Output, weight: Array, filtering: Filtering) -> ov.Node:
    """The convolution of x with weight [out, in, 3, 3].

    Nothing is copied where OpenVINO holds channels last: positions are the batch of a concatenation and of
    one matrix product, channels stay innermost.
    """
    tile, taps = filtering.inverse.shape
    width_out, width_in = weight.shape[:2]
    positions = []
    for row in filtering.data:
        rows = _strided(x, row, tile, width_in, axis=0)
        positions += [_strided(rows.output(0), column, tile, width_in, axis=1) for column in filtering.data]
    tiles = ops.concat(positions, 0)
    _, _, high, wide = tiles.get_output_shape(0)
    tiles = ops.reshape(ops.transpose(tiles, [0, 2, 3, 1]), [taps**2, high * wide, width_in], False)
    kernels = np.kron(filtering.kernel, filtering.kernel) @ weight.transpose(2, 3, 1, 0).reshape(9, -1)
    # A constant, since of an array one is made by way of a list.
    constant = ops.constant(kernels.reshape(taps**2, width_in, width_out))
    products = ops.matmul(tiles, constant, False, False)
    inverse = np.kron(filtering.inverse, filtering.inverse)
    results = ops.matmul(inverse, ops.reshape(products, [taps**2, -1], False), False, False)
    results = ops.reshape(results, [tile, tile, high, wide, width_out], False)
    results = ops.transpose(results, [2, 0, 3, 1, 4])
    results = ops.reshape(results, [1, high * tile, wide * tile, width_out], False)
    return ops.transpose(results, [0, 3, 1, 2])


def _cast(value: ov.Output, dtype: str) -> ov.Output:
    return value if value.get_element_type().to_string() == dtype else ops.convert(value, dtype).output(0)


def _strided(x: ov.Output, taps: Array, tile: int, channels: int, axis: int) -> ov.Node:
    """Along one axis, a weighted sum of neighbours for each tile, with zeros outside the picture."""
    along = [1, 1]
    along[axis] = len(taps)
    weight = np.ascontiguousarray(np.broadcast_to(taps.reshape(1, 1, 1, *along), (channels, 1, 1, *along)))
    stride = [tile if i == axis else 1 for i in range(2)]
    padding = [int(i == axis) for i in range(2)]
    return ops.group_convolution(x, ops.constant(weight), stride, padding, padding, [1, 1])
