"""Operations re-expressed for engines compute what the network's own do."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.correlation import batched_correlation
from export.graphs import prepare, sample_inputs
from export.pyramid import FoldedPyramid, fold_finest
from export.sampling import sample_inside
from kernels.local_correlation import local_correlation_reference
from rmgn.config import PRESETS
from rmgn.model import RMGN
from rmgn.warp import FeaturePyramid


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 40),
    height=st.integers(1, 9),
    width=st.sampled_from([1, 3, 6, 7, 24, 29, 37, 48, 50]),  # below, at and above a block; primes
    radius=st.integers(0, 4),
    seed=st.integers(0, 2**16),
)
def test_batched_correlation(channels: int, height: int, width: int, radius: int, seed: int) -> None:
    """Against the kernels' specification; the same sums in another order."""
    generator = torch.Generator().manual_seed(seed)
    garment, person = torch.randn(2, 2, channels, height, width, generator=generator)
    expected = local_correlation_reference(garment, person, radius)
    actual = batched_correlation(garment, person, radius)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5)])
def test_folded_pyramid(height: int, width: int) -> None:
    """All levels as of the pyramid itself, in double precision; the borders are in the smallest sizes."""
    torch.manual_seed(0)
    pyramid = FeaturePyramid((4, 6, 5), 7).double()
    features = [
        torch.randn(2, channels, height << shift, width << shift, dtype=torch.float64)
        for channels, shift in ((4, 2), (6, 1), (5, 0))
    ]
    folded = FoldedPyramid(pyramid).double()
    for actual, expected in zip(folded(features), pyramid(features), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)
    assert len(folded(features, 2)) == 2


def test_pyramids_are_folded_where_it_pays() -> None:
    paper, lite = (
        fold_finest(FeaturePyramid(config.encoder_widths, config.pyramid_width))
        for config in (PRESETS["paper"], PRESETS["lite"])
    )
    assert isinstance(paper, FoldedPyramid)
    assert isinstance(lite, FeaturePyramid)


def test_networks_of_one_level_can_be_exported() -> None:
    """Their pyramid would be folded for its widths, but has nothing coarser to fold in."""
    config = replace(PRESETS["lite"], encoder_widths=(64,), pyramid_width=256)
    model = RMGN(config).eval()
    assert len(model.warp.flow_net.match) == 1
    inputs = tuple(sample_inputs(32, 32).values())
    with torch.no_grad():
        torch.testing.assert_close(prepare(model, half=False)(*inputs)[0], model(*inputs).tryon)


def _sampler(height: int, width: int, padding: str) -> onnx.ModelProto:
    """A GridSample of [1, 2, height, width] at 5x7 positions."""
    shapes = {"x": [1, 2, height, width], "grid": [1, 5, 7, 2], "y": [1, 2, 5, 7]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], "sample", padding_mode=padding)
    graph = helper.make_graph([node], "g", [values["x"], values["grid"]], [values["y"]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, feeds)[0]
    return result


@pytest.mark.parametrize(("height", "width"), [(6, 9), (1, 4), (128, 96)])
def test_sampling_inside_repeats_the_border(height: int, width: int) -> None:
    """Positions inside, on the border and far outside: within what moving by some roundings changes."""
    rng = np.random.default_rng(0)
    grid = rng.uniform(-1.5, 1.5, (1, 5, 7, 2)).astype(np.float32)
    grid[0, 0, 0], grid[0, 0, 1], grid[0, 0, 2] = (-1, 1), (100, -100), (1 - 1 / width, 1 / height - 1)
    feeds = {"x": rng.standard_normal((1, 2, height, width)).astype(np.float32), "grid": grid}
    model = _sampler(height, width, "border")
    expected = _run(model, feeds)
    sample_inside(model)
    assert b"border" not in model.SerializeToString()
    np.testing.assert_allclose(_run(model, feeds), expected, atol=5e-4)


def test_sampling_with_zeros_is_left_alone() -> None:
    model = _sampler(6, 9, "zeros")
    before = model.SerializeToString()
    sample_inside(model)
    assert model.SerializeToString() == before
