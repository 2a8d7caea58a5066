"""Operations re-expressed for engines compute what the network's own do."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import engines
from engines.bundle import LAST_OPSET
from engines.gathered_sampling import DOMAIN, gather_samples
from export.correlation import batched_correlation
from export.graphs import prepare, sample_inputs
from export.pyramid import FoldedPyramid, fold_finest
from export.samples import SHIPPED
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


def _sampler(
    height: int, width: int, padding: str, features: int = TensorProto.FLOAT, batch: int = 1, opset: int = 17
) -> onnx.ModelProto:
    """A GridSample of [batch, 2, height, width] at 5x7 positions."""
    shapes = {"x": [batch, 2, height, width], "grid": [batch, 5, 7, 2], "y": [batch, 2, 5, 7]}
    types = {"x": features, "grid": TensorProto.FLOAT, "y": features}
    values = {name: helper.make_tensor_value_info(name, types[name], shape) for name, shape in shapes.items()}
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], "sample", padding_mode=padding)
    graph = helper.make_graph([node], "g", [values["x"], values["grid"]], [values["y"]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


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


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    far=st.sampled_from([0.9, 1.2, 3.0, 1e6]),
    half=st.booleans(),
    opset=st.integers(17, LAST_OPSET),
    seed=st.integers(0, 2**16),
)
def test_gathered_samples(height: int, width: int, far: float, half: bool, opset: int, seed: int) -> None:
    """Against PyTorch's own grid_sample: inside, around the border, far outside and on pixel centres."""
    rng = np.random.default_rng(seed)
    grid = rng.uniform(-far, far, (1, 5, 7, 2)).astype(np.float32)
    grid[0, 0, :4] = [(-1, 1), (1 - 1 / width, 1 / height - 1), (-1 - 1 / width, 0), (0, 1 + 1 / height)]
    x = rng.standard_normal((1, 2, height, width)).astype(np.float16 if half else np.float32)
    features = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    model = _sampler(height, width, "zeros", features, opset=opset)
    gathered = gather_samples(model)
    assert not {"GridSample", DOMAIN} & {text for n in gathered.graph.node for text in (n.op_type, n.domain)}
    assert not gathered.functions
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(x).float(), torch.from_numpy(grid), align_corners=False
    ).numpy()
    # Positions are rounded in another order, to about 1e-6 of a pixel here, and neighbours differ by up to 8.
    actual = _run(gathered, {"x": x, "grid": grid})
    assert actual.dtype == x.dtype
    np.testing.assert_allclose(actual, expected, rtol=1e-3 if half else 1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("padding", "batch", "said"), [("border", 1, "b'border'.* not known"), ("zeros", 2, "batch of 2")]
)
def test_other_samples_are_not_gathered(padding: str, batch: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gather_samples(_sampler(6, 9, padding, batch=batch))


def test_the_shipped_graph_without_grid_sample(tmp_path: Path) -> None:
    """It computes the reference of its bundle, as plans built of it have to."""
    bundle = engines.load_bundle(shutil.copytree(SHIPPED / "lite-256-fp16", tmp_path / "bundle"))
    onnx.save(gather_samples(onnx.load(bundle.path("tryon"))), bundle.folder / "gathered.onnx")
    gathered = replace(bundle.graphs["tryon"], file="gathered.onnx")
    engines.open(replace(bundle, graphs={**bundle.graphs, "tryon": gathered}), "onnxruntime").close()


def test_sampling_with_zeros_is_left_alone() -> None:
    model = _sampler(6, 9, "zeros")
    before = model.SerializeToString()
    sample_inside(model)
    assert model.SerializeToString() == before
