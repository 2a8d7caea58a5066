"""The Triton kernels against float64 references: natively on a GPU, in the interpreter elsewhere."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.flow_warp import (
    compose_flow_reference,
    flow_warp_op,
    flow_warp_reference,
    identity_flow,
)
from kernels.local_correlation import local_correlation_op, local_correlation_reference
from kernels.mask_fusion import fuse_with_mask, mask_fusion
from kernels.mask_fusion_op import FUSED_CHANNELS, WHOLE_PLANE, mask_fusion_op

DEVICES = [
    pytest.param("cuda", marks=pytest.mark.gpu),
    pytest.param(
        "cpu",
        marks=pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="a GPU is used instead"),
    ),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# One pixel; odd sides; more channels than a block; a plane larger than a block of pixels; batch > 1.
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 19, 9, 13), (2, 5, 17, 33)]


@pytest.fixture(autouse=True)
def unwritten_is_nan() -> Iterator[None]:
    """torch.empty is filled with NaN, so that what a kernel leaves out shows."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def assert_as_good_as_torch(
    kernel: Callable[..., Any], reference: Callable[..., Any], inputs: list[Tensor], dtype: torch.dtype
) -> None:
    """Outputs and gradients: at most twice the error of plain torch in this dtype, and a few roundings.

    Both are held against the reference in float64. References run on the CPU, where they are plain torch
    whatever they call, on one thread and on two: one order of summing alone may be a lucky one.
    """
    rounding = 4 * torch.finfo(dtype).eps

    def run(function: Callable[..., Any], cast: torch.dtype, device: str | None = "cpu") -> list[Tensor]:
        # Flows and offsets are float32 in every dtype of the features.
        leaves = [
            t.to(device or t.device, cast if t.dtype == dtype or cast == torch.float64 else t.dtype)
            .detach()
            .requires_grad_()
            for t in inputs
        ]
        results = function(*leaves)
        results = list(results) if isinstance(results, tuple) else [results]
        generator = torch.Generator().manual_seed(1)
        cotangents = [torch.randn(r.shape, generator=generator).to(r) for r in results]
        grads = torch.autograd.grad(results, leaves, cotangents)
        return [t.detach().double().cpu() for t in (*results, *grads)]

    exact, ours = run(reference, torch.float64), run(kernel, dtype, None)
    threads, plain = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            plain.append(run(reference, dtype))
    finally:
        torch.set_num_threads(threads)
    for index, (truth, *theirs, mine) in enumerate(zip(exact, *plain, ours, strict=True)):
        scale = max(1.0, truth.abs().max().item())
        allowed = 2 * max((each - truth).abs().max().item() for each in theirs) + rounding * scale
        error = (mine - truth).abs().max().item()
        assert error <= allowed, f"result {index}: {error} > {allowed}"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("padding", "channels_last"),
    [("border", False), ("border", True), ("zeros", False), ("zeros", True)],
    ids=str,
)
def test_flow_warp(
    device: str, dtype: torch.dtype, shape: tuple[int, ...], padding: Any, channels_last: bool
) -> None:
    batch, _, height, width = shape
    layout = torch.channels_last if channels_last else torch.contiguous_format
    features = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)
    flow = (torch.rand(batch, 2, height + 2, max(1, width - 1), device=device) * 2 - 1) * 1.3
    assert_as_good_as_torch(
        lambda f, g: flow_warp_op(f, g, padding, "flow"),
        lambda f, g: flow_warp_reference(f, g, padding),
        [features, flow],
        dtype,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rule", ["centres", "corners"])
def test_compose_flow(device: str, shape: tuple[int, ...], rule: Any) -> None:
    batch, _, height, width = shape
    flow = identity_flow(height, width, device=device) + 0.1 * torch.randn(
        batch, 2, height, width, device=device
    )
    offset = 2 * torch.randn(batch, 2, height, width, device=device)
    assert_as_good_as_torch(
        lambda f, o: flow_warp_op(f, o, "border", rule),
        lambda f, o: compose_flow_reference(f, o, rule),
        [flow, offset],
        torch.float32,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("radius", [1, 3])
def test_local_correlation(device: str, dtype: torch.dtype, shape: tuple[int, ...], radius: int) -> None:
    garment, person = torch.randn(2, *shape, device=device).to(dtype).unbind()
    assert_as_good_as_torch(
        lambda a, b: local_correlation_op(a, b, radius, 0.1),
        lambda a, b: local_correlation_reference(a, b, radius, 0.1),
        [garment, person],
        dtype,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 2, 2), *SHAPES[1:]], ids=str)
@pytest.mark.parametrize(("residual", "channels_last"), [*itertools.product([True, False], repeat=2)])
def test_mask_fusion(
    device: str, dtype: torch.dtype, shape: tuple[int, ...], residual: bool, channels_last: bool
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = [t.to(dtype).contiguous(memory_format=layout) for t in torch.randn(5, *shape, device=device)]
    weight, bias = torch.randn(shape[1], device=device).to(dtype), torch.randn(1, device=device).to(dtype)

    def reference(h: Tensor, gp: Tensor, bp: Tensor, gi: Tensor, bi: Tensor, w: Tensor, b: Tensor) -> Any:
        return mask_fusion(h, (gp, bp), (gi, bi), w.view(1, -1, 1, 1), b, residual)

    assert_as_good_as_torch(
        lambda *t: mask_fusion_op(*t[:5], None, *t[5:], residual)[:2], reference, [*maps, weight, bias], dtype
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(1, FUSED_CHANNELS + 1, 2, 3), (2, 96, 9, 13), (3, 8, 40, 33)], ids=str)
def test_mask_fusion_in_rows(device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """NHWC with more channels than one program holds, with fewer, and with planes that several share."""
    made = torch.randn(5, *shape, device=device).to(dtype)
    maps = [t.contiguous(memory_format=torch.channels_last) for t in made]
    weight = (torch.randn(shape[1], device=device) / shape[1] ** 0.5).to(dtype)
    bias = torch.randn(1, device=device).to(dtype)

    def reference(h: Tensor, gp: Tensor, bp: Tensor, gi: Tensor, bi: Tensor, w: Tensor, b: Tensor) -> Any:
        return mask_fusion(h, (gp, bp), (gi, bi), w.view(1, -1, 1, 1), b, True)

    assert_as_good_as_torch(
        lambda *t: mask_fusion_op(*t[:5], None, *t[5:], True)[:2],
        reference,
        [*maps, weight, bias],
        dtype,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "shape", [(2, 3, 5, 7), (1, 2, WHOLE_PLANE // 64 + 1, 64)], ids=["held", "two passes"]
)
@pytest.mark.parametrize(("residual", "channels_last"), [(True, False), (False, False), (True, True)])
def test_mask_fusion_with_a_given_mask(
    device: str, shape: tuple[int, ...], residual: bool, channels_last: bool
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = [t.contiguous(memory_format=layout) for t in torch.randn(5, *shape, device=device)]
    mask = torch.rand(shape[0], 1, *shape[2:], device=device)

    def reference(*tensors: Tensor) -> Tensor:
        h, gp, bp, gi, bi, m = tensors
        return fuse_with_mask(h, (gp, bp), (gi, bi), m, residual)

    assert_as_good_as_torch(
        lambda *t: mask_fusion_op(*t, None, None, residual)[0],
        reference,
        [*maps, mask],
        torch.float32,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_statistics_of_half_are_float32(device: str) -> None:
    """A plane around 300: its sum and its squares overflow in half."""
    h = (300 + torch.randn(1, 2, 65, 64, device=device)).half()
    zeros, ones = torch.zeros_like(h), torch.ones_like(h)
    mask = torch.zeros(1, 1, 65, 64, device=device).half()
    fused = mask_fusion_op(h, ones, zeros, ones, zeros, mask, None, None, False)[0]
    expected = torch.nn.functional.instance_norm(h.double())
    torch.testing.assert_close(fused.double(), expected, atol=4e-3, rtol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_other_shapes_are_refused(device: str) -> None:
    """The kernels would read beside the tensors that are smaller."""

    def of(*shape: int) -> torch.Tensor:
        return torch.zeros(*shape, device=device)

    h, one, weight, bias = of(2, 4, 6, 6), of(1, 4, 6, 6), of(4), of(1)
    for maps, mask, taken in (
        ((h, h, h, one), None, (weight, bias)),
        ((h, h, h, h), of(1, 1, 6, 6), (None, None)),
        ((h, h, h, h), None, (of(3), bias)),
        ((h, h, h, h), None, (None, None)),
    ):
        with pytest.raises(ValueError, match=r"belongs|needs a mask"):
            mask_fusion_op(h, *maps, mask, *taken, True)
    huge = of(1).expand(1, 2, 32768, 32768)  # of one number, so it takes no memory
    with pytest.raises(ValueError, match="more elements than the kernel's 32-bit offsets"):
        mask_fusion_op(huge, huge, huge, huge, huge, None, of(2), bias, True)
    for person in (one, of(2, 4, 3, 3), of(2, 5, 6, 6)):
        with pytest.raises(ValueError, match=r"person is .* where \[2, 4, 6, 6\] belongs"):
            local_correlation_op(h, person, 3, 0.1)
    for field, padding, rule in (
        (of(1, 2, 6, 6), "border", "flow"),
        (of(2, 3, 6, 6), "border", "flow"),
        (of(2, 2, 6, 6), "reflection", "flow"),
        (of(2, 2, 6, 6), "border", "corner"),
    ):
        with pytest.raises(ValueError, match=r"belongs|there is no padding"):
            flow_warp_op(h, field, padding, rule)
    with pytest.raises(ValueError, match="the offset is"):
        flow_warp_op(of(1, 2, 6, 6), of(1, 2, 3, 3), "border", "centres")


@pytest.mark.parametrize("device", DEVICES)
def test_an_empty_batch_gives_one(device: str) -> None:
    h = torch.zeros(0, 4, 6, 6, device=device)
    weight, bias = torch.zeros(4, device=device), torch.zeros(1, device=device)
    fused, mask, _, _ = mask_fusion_op(h, h, h, h, h, None, weight, bias, True)
    assert (fused.shape, mask.shape) == (h.shape, (0, 1, 6, 6))
    assert local_correlation_op(h, h, 3, 0.1).shape == (0, 49, 6, 6)
    assert flow_warp_op(h, h[:, :2], "border", "flow").shape == h.shape


@pytest.mark.filterwarnings("ignore:overflow encountered")  # NumPy, in the interpreter; infinity is clamped
@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(-1e30, 1e30),
    y=st.sampled_from([-1.0, 1.0, -1 - 1e-7, 0.0, 3e38, -3e38]),
    form=st.sampled_from(
        [("border", "flow"), ("zeros", "flow"), ("border", "centres"), ("border", "corners")]
    ),
)
def test_no_position_gives_nan(device: str, x: float, y: float, form: tuple[str, str]) -> None:
    padding, rule = form
    features = torch.randn(1, 2, 4, 6, device=device, requires_grad=True)
    flow = torch.tensor([x, y], device=device).view(1, 2, 1, 1).expand(1, 2, 4, 6).requires_grad_()
    out = flow_warp_op(features, flow, padding, rule)
    grads = torch.autograd.grad(out.sum(), [features, flow])
    assert all(t.isfinite().all() for t in (out, *grads))
    if padding == "border":
        assert out.min() >= features.min()
        assert out.max() <= features.max()


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="gradients are checked in the interpreter"
)
def test_gradients_in_float64() -> None:
    gradcheck = partial(torch.autograd.gradcheck, fast_mode=True)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.double).requires_grad_()

    for padding in ("border", "zeros"):
        flow = ((torch.rand(2, 2, 3, 4, dtype=torch.double) * 2 - 1) * 1.3).requires_grad_()
        assert gradcheck(lambda f, g, p=padding: flow_warp_op(f, g, p, "flow"), (leaf(2, 3, 4, 5), flow))
    for rule in ("centres", "corners"):
        fields = (leaf(2, 2, 4, 5), leaf(2, 2, 4, 5))
        assert gradcheck(lambda f, o, r=rule: flow_warp_op(f, o, "border", r), fields)
    pair = (leaf(2, 3, 4, 3), leaf(2, 3, 4, 3))
    assert gradcheck(lambda a, b: local_correlation_op(a, b, 1, 0.1), pair)
    maps = [leaf(2, 3, 3, 4) for _ in range(5)]
    conv = (leaf(3), leaf(1))
    assert gradcheck(lambda *t: mask_fusion_op(*t[:5], None, *t[5:], True)[:2], (*maps, *conv))
    mask = torch.rand(2, 1, 3, 4, dtype=torch.double).requires_grad_()
    assert gradcheck(lambda *t: mask_fusion_op(*t, None, None, False)[0], (*maps, mask))


@pytest.mark.parametrize("device", DEVICES)
def test_operators_are_well_formed(device: str) -> None:
    """Schema, fake kernels, autograd registration, tracing: what torch.compile relies on."""
    maps = [torch.randn(2, 3, 4, 5, device=device, requires_grad=True) for _ in range(5)]
    flow = torch.rand(2, 2, 3, 4, device=device, requires_grad=True)
    weight, bias = (torch.randn(n, device=device, requires_grad=True) for n in (3, 1))
    mask = torch.rand(2, 1, 4, 5, device=device, requires_grad=True)
    torch.library.opcheck(flow_warp_op, (maps[0], flow, "border", "flow"))
    torch.library.opcheck(flow_warp_op, (flow, flow.detach().clone().requires_grad_(), "border", "corners"))
    torch.library.opcheck(local_correlation_op, (maps[0], maps[1], 1, 0.1))
    torch.library.opcheck(mask_fusion_op, (*maps, None, weight, bias, True))
    torch.library.opcheck(mask_fusion_op, (*maps, mask, None, None, False))
    rows = [t.detach().to(memory_format=torch.channels_last).requires_grad_() for t in maps]
    torch.library.opcheck(flow_warp_op, (rows[0], flow, "border", "flow"))
    torch.library.opcheck(mask_fusion_op, (*rows, None, weight, bias, True))


@pytest.mark.parametrize("device", DEVICES)
def test_other_layouts_compute_the_same(device: str) -> None:
    """Channels last, mixed, and what is only expanded: a network on a GPU has them all."""
    shape = (2, 6, 5, 7)
    h, *maps = torch.randn(5, *shape, device=device)
    rows = [t.to(memory_format=torch.channels_last) for t in (h, *maps)]
    mask = torch.rand(1, 1, 1, 7, device=device).expand(2, 1, 5, 7)
    flow = (torch.rand(1, 2, 4, 3, device=device) * 2 - 1).expand(2, 2, 4, 3)
    turned = torch.rand(2, 2, 3, 4, device=device).transpose(2, 3)

    def same(found: Any, wanted: Any) -> None:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)

    same(local_correlation_op(rows[0], rows[1], 3, 0.1), local_correlation_op(h, maps[0], 3, 0.1))
    fused = mask_fusion_op(h, *maps, mask.contiguous(), None, None, True)
    for first, others in ((rows[0], maps), (h, rows[1:]), (rows[0], rows[1:])):
        for found, wanted in zip(
            mask_fusion_op(first, *others, mask, None, None, True)[:2], fused[:2], strict=True
        ):
            same(found, wanted)
    for field in (flow, turned):
        same(flow_warp_op(rows[0], field, "border", "flow"), flow_warp_reference(h, field.contiguous()))


@pytest.mark.parametrize("device", DEVICES)
def test_operators_compile_without_graph_breaks(device: str) -> None:
    """Forward and backward through torch.compile's tracing give what the operators give alone."""

    def step(h: Tensor, maps: list[Tensor], weight: Tensor, bias: Tensor, flow: Tensor) -> Tensor:
        fused, mask, _, _ = mask_fusion_op(h, *maps, None, weight, bias, True)
        warped = flow_warp_op(fused * mask, flow, "border", "flow")
        return local_correlation_op(warped, h, 1, 0.1).square().sum()

    h, *maps = (torch.randn(1, 3, 4, 5, device=device, requires_grad=True) for _ in range(5))
    weight, bias = (torch.randn(n, device=device, requires_grad=True) for n in (3, 1))
    flow = (torch.rand(1, 2, 4, 5, device=device) * 2 - 1).requires_grad_()
    calls = (step, torch.compile(step, fullgraph=True, backend="aot_eager"))
    leaves = [h, *maps, weight, bias, flow]
    results = [torch.autograd.grad(call(h, maps, weight, bias, flow), leaves) for call in calls]
    for plain, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, plain)


@pytest.mark.slow
def test_benchmark_cases_agree_with_eager_torch() -> None:
    command = [sys.executable, "-m", "benchmarks.kernels", "--interpret", "--tiny"]
    interpreted = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parent.parent
    done = subprocess.run(command, env=interpreted, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "38 cases agree" in done.stdout


def test_benchmark_writes_table_and_plot(tmp_path: Path) -> None:
    from benchmarks.kernels import Row, write

    times = {"ours_ms": 0.5, "eager_ms": 2.0, "compiled_ms": 1.0, "over_eager": 4.0, "over_compiled": 2.0}
    rate = {"gigabytes_per_second": 1000.0, "share_of_copy": 0.5}
    shape = (1, 256, 128, 96)
    rows = [
        Row("flow_warp", shape, "NHWC", "float16", "forward", 500.0, **times, **rate),
        Row("flow_warp", shape, "NHWC", "float16", "forward+backward", 500.0, **times, **rate),
    ]
    write(rows, 2e12, {"GPU": "a <GPU>", "commit": "abc"}, tmp_path)
    table = (tmp_path / "kernels.md").read_text()
    assert "| flow_warp | 1x256x128x96 | NHWC | float16 | forward | 0.500 | 4.0 | 2.0 | 1000 | 50% |" in table
    assert "copy 2000 GB/s" in table
    content = json.loads((tmp_path / "kernels.json").read_text())
    assert content["rows"][0]["megabytes"] == 500.0
    assert content["commit"] == "abc"
    picture = ElementTree.parse(tmp_path / "kernels.svg").getroot()
    points = [c for c in picture.iter("{http://www.w3.org/2000/svg}circle") if len(c)]
    (point,) = points  # the forward row; the circles without a title are the legend
    line = [p for p in picture.iter("{http://www.w3.org/2000/svg}path") if p.get("stroke-dasharray")]
    copy_at = float(str(line[0].get("d")).split()[1].split("h")[0])
    assert float(str(point.get("cy"))) > copy_at, "below the copy's line"
