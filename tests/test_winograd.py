"""Convolutions that OpenVINO computes by Winograd's minimal filtering."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("openvino")
import openvino as ov
from openvino import opset13 as ops

from engines import openvino_winograd
from engines.openvino_winograd import Filtering

pytestmark = pytest.mark.skipif(not openvino_winograd.X86, reason="for x86 alone")


def _network(
    weight: np.ndarray, height: int, width: int, changes: Mapping[str, list[int]] = {}, half: bool = False
) -> ov.Model:
    """x -> relu -> convolution of `weight` -> relu, so that neighbours choose the layout, as in a network."""
    x = ops.parameter([1, weight.shape[1], height, width], np.float32, name="x")
    kernel = ops.convert(ops.constant(weight.astype(np.float16)), "f32") if half else ops.constant(weight)
    plain = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "dilations": [1, 1]}
    y = ops.relu(ops.convolution(ops.relu(x), kernel, **plain | dict(changes)))
    return ov.Model([y], [x], "network")


def _run(model: ov.Model, x: np.ndarray) -> np.ndarray:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result: np.ndarray = compiled(x)[0]
    return result


def _types(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


@settings(max_examples=20)
@given(
    width_in=st.integers(1, 40),
    width_out=st.integers(1, 40),
    high=st.integers(1, 5),
    wide=st.integers(1, 5),
    filtering=st.sampled_from([openvino_winograd.SMALL, openvino_winograd.LARGE]),
    half=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_results_are_the_convolution_s(
    width_in: int, width_out: int, high: int, wide: int, filtering: Filtering, half: bool, seed: int
) -> None:
    """Against PyTorch in double precision; the border is in every size."""
    rng = np.random.default_rng(seed)
    height, width = high * filtering.tile, wide * filtering.tile
    x = rng.standard_normal((1, width_in, height, width), np.float32)
    weight = rng.standard_normal((width_out, width_in, 3, 3), np.float32) / np.float32(3 * width_in**0.5)
    weight = weight.astype(np.float16).astype(np.float32)
    model = _network(weight, height, width, half=half)
    assert openvino_winograd.use_winograd(model, lambda *_: filtering) == 1
    assert "Convolution" not in _types(model)
    expected = torch.relu(
        torch.nn.functional.conv2d(
            torch.from_numpy(x).double().relu(), torch.from_numpy(weight).double(), padding=1
        )
    )
    np.testing.assert_allclose(_run(model, x), expected.numpy(), atol=5e-5)


@pytest.mark.parametrize(
    ("shape", "size", "changes"),
    [
        pytest.param((128, 128, 3, 3), (64, 46), {}, id="no whole tiles"),
        pytest.param((128, 128, 3, 3), (64, 48), {"strides": [2, 2]}, id="stride"),
        pytest.param((128, 128, 3, 3), (64, 48), {"dilations": [2, 2]}, id="dilation"),
        pytest.param((128, 128, 3, 3), (66, 50), {"pads_begin": [0, 0], "pads_end": [0, 0]}, id="padding"),
        pytest.param((128, 128, 1, 1), (64, 48), {"pads_begin": [0, 0], "pads_end": [0, 0]}, id="kernel"),
        pytest.param((64, 64, 3, 3), (256, 192), {}, id="few channels"),
        pytest.param((128, 128, 3, 3), (8, 8), {}, id="few pixels"),
    ],
)
def test_others_stay(shape: tuple[int, ...], size: tuple[int, int], changes: dict[str, list[int]]) -> None:
    model = _network(np.zeros(shape, np.float32), *size, changes)
    before = _types(model)
    assert openvino_winograd.use_winograd(model) == 0
    assert _types(model) == before


@pytest.mark.parametrize(
    ("widths", "size", "tile"), [((512, 128), (128, 96), 4), ((1024, 1024), (16, 12), 2)]
)
def test_the_published_widths_are_replaced(widths: tuple[int, int], size: tuple[int, int], tile: int) -> None:
    """Those of the most expensive convolutions at 256x192, 7 and 2 GMAC."""
    filtering = openvino_winograd.choose(*widths, *size)
    assert filtering is not None
    assert filtering.tile == tile
