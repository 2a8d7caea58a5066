"""The kernels as TensorRT plugins and as ONNX functions, without TensorRT and without a GPU."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper
from torch import Tensor

from export.fused_graph import BODIES, add_functions, function
from export.graphs import sample_inputs
from export.parity import compare, reference, run_engine, run_fused
from export.write_bundle import write_bundle
from kernels.flow_warp import compose_flow_reference, flow_warp_reference, identity_flow
from kernels.local_correlation import local_correlation_reference
from kernels.mask_fusion import blend, denormalise
from kernels.mask_fusion_op import EPSILON
from kernels.onnx_nodes import DOMAIN
from rmgn import PRESETS, RMGN

STAND_IN = Path(__file__).with_name("tensorrt_stand_in.py")
TYPES = {torch.float32: onnx.TensorProto.FLOAT, torch.float16: onnx.TensorProto.FLOAT16}
FLOAT32 = {"flow", "offset", "mean", "rstd"}  # whatever the type of the features


def normalised(h: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    return (h - mean[..., None, None]) * rstd[..., None, None]


def masked_blend(residual: bool) -> Callable[..., Tensor]:
    def run(*tensors: Tensor) -> Tensor:
        h, gp, bp, gi, bi, m, mean, rstd = tensors
        n = normalised(h, mean, rstd)
        return blend(denormalise(n, gp, bp, residual), denormalise(n, gi, bi, residual), m)

    return run


def statistics(h: Tensor) -> tuple[Tensor, Tensor]:
    return h.mean((2, 3)), 1 / (h.var((2, 3), correction=0) + EPSILON).sqrt()


REFERENCES: dict[str, Callable[..., Any]] = {
    "FlowWarpBorder": lambda features, flow: flow_warp_reference(features, flow, "border"),
    "FlowWarpZeros": lambda features, flow: flow_warp_reference(features, flow, "zeros"),
    "ComposeFlowCentres": lambda flow, offset: compose_flow_reference(flow, offset, "centres"),
    "ComposeFlowCorners": lambda flow, offset: compose_flow_reference(flow, offset, "corners"),
    "LocalCorrelation": lambda garment, person: local_correlation_reference(garment, person),
    "PlaneStatistics": statistics,
    "RegionalMask": lambda h, mean, rstd, weight, bias: torch.sigmoid(
        (normalised(h, mean, rstd) * weight[None, :, None, None]).sum(1, keepdim=True) + bias
    ),
    "Blend": masked_blend(residual=False),
    "BlendResidual": masked_blend(residual=True),
}


def inputs_of(name: str, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> dict[str, Tensor]:
    """Values as the network has them: flows beyond the border, offsets of pixels, masks in [0, 1]."""
    torch.manual_seed(0)
    values = {}
    for argument, shape in zip(function(name).input, shapes, strict=True):
        value = torch.randn(shape)
        if argument == "flow":
            value = identity_flow(shape[2], shape[3]) * 1.2 + 0.05 * value
        elif argument == "offset":
            value = 3 * value
        elif argument == "mask":
            value = torch.sigmoid(value)
        elif argument == "rstd":
            value = value.abs() + 0.5
        values[argument] = value if argument in FLOAT32 else value.to(dtype)
    return values


def run_body(name: str, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    """The ONNX function, inlined and run by ONNX Runtime."""
    body = function(name)
    node = helper.make_node(name, list(body.input), list(body.output), domain=DOMAIN, plugin_namespace=DOMAIN)
    specs = [helper.make_tensor_value_info(k, TYPES[v.dtype], v.shape) for k, v in inputs.items()]
    results = [helper.make_empty_tensor_value_info(output) for output in body.output]
    graph = helper.make_graph([node], name, specs, results)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    add_functions(model)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {k: v.numpy() for k, v in inputs.items()})


def stand_in() -> Any:
    spec = importlib.util.spec_from_file_location("tensorrt_stand_in", STAND_IN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", list(TYPES), ids=str)
@pytest.mark.parametrize("name", list(BODIES))
def test_launch_and_function_body_compute_the_reference(name: str, dtype: torch.dtype) -> None:
    """Both against float64: the call that TensorRT is given, in Triton's interpreter, and the body."""
    inputs = inputs_of(name, stand_in().SHAPES[name], dtype)
    exact = REFERENCES[name](*(value.double() for value in inputs.values()))
    exact = exact if isinstance(exact, tuple) else (exact,)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-3
    results = run_body(name, inputs)
    for truth, result, output in zip(exact, results, function(name).output, strict=True):
        assert result.dtype == np.float32 or output not in FLOAT32
        np.testing.assert_allclose(result, truth.numpy(), atol=tolerance * max(1, truth.abs().max().item()))
    if os.environ.get("TRITON_INTERPRET") != "1":
        return
    plugins = pytest.importorskip("kernels.tensorrt_plugins", reason="Triton has no wheels for this platform")
    outputs = [torch.full(truth.shape, float("nan"), dtype=torch.from_numpy(result).dtype)
               for truth, result in zip(exact, results, strict=True)]  # fmt: skip
    launch = plugins.PLUGINS[name].launch(*(tuple(value.shape) for value in inputs.values()))
    launch.function[launch.grid](*_arguments(launch, [*inputs.values(), *outputs]))
    for truth, output in zip(exact, outputs, strict=True):
        bound = tolerance * max(1, truth.abs().max().item())
        np.testing.assert_allclose(output.double().numpy(), truth.numpy(), atol=bound)


def _arguments(launch: Any, pointers: list[Tensor]) -> list[Any]:
    """The kernel's arguments in order, its pointers in TensorRT's: inputs, then outputs."""
    rest = iter(pointers)
    return [
        launch.constants[argument] if argument in launch.constants else next(rest)
        for argument in launch.function.arg_names
    ]


def test_plugins_have_the_signatures_of_their_nodes() -> None:
    plugins = pytest.importorskip("kernels.tensorrt_plugins")
    assert set(plugins.PLUGINS) == set(BODIES) == set(REFERENCES)
    shapes = stand_in().SHAPES
    for name, plugin in plugins.PLUGINS.items():
        body = function(name)
        assert list(plugin.inputs) == list(body.input)
        assert list(plugin.outputs) == list(body.output)
        launch = plugin.launch(*shapes[name])
        pointers = [a for a in launch.function.arg_names if a not in launch.constants]
        assert set(launch.constants) <= set(launch.function.arg_names)
        if name.startswith(("ComposeFlow", "FlowWarp")):  # one kernel; the composed flow is what it samples
            assert pointers == ["features", "field", "out"]
        else:
            assert pointers == [*body.input, *body.output]


def test_tensorrts_own_checks_accept_the_plugins(tmp_path: Path) -> None:
    """NVIDIA's Python half of tensorrt.plugin registers and builds each plugin, the C++ half stood in for.

    The PTX that it would get is assembled, which shows its parameters, its threads and that nothing spills.
    """
    pytest.importorskip("triton", reason="Triton has no wheels for this platform")
    if not stand_in().available():
        pytest.skip("tensorrt-cu13-bindings is not installed")
    plugins = importlib.import_module("kernels.tensorrt_plugins")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(STAND_IN), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    shapes = stand_in().SHAPES
    built = {(result["name"], result["types"][0]) for result in results}
    for name, plugin in plugins.PLUGINS.items():
        fixed = name.startswith("ComposeFlow")
        types = {"FLOAT"} if fixed else {"FLOAT", "HALF", "BF16"}
        assert {kind for other, kind in built if other == name} == types
        wanted = [list(shape) for shape in plugin.shapes(*shapes[name])]
        launch = plugin.launch(*shapes[name])
        for result in (result for result in results if result["name"] == name):
            assert result["shapes"] == wanted
            assert {kernel["tactic"] for kernel in result["kernels"]} == set(plugin.warps)
            kinds = [*plugin.inputs.values(), *plugin.outputs.values()]
            both = zip(result["types"], kinds, strict=True)
            assert all(kind == "FLOAT" for kind, own in both if own == "FP32")
            for kernel in result["kernels"]:
                sizes = kernel["launch"]
                assert tuple(sizes[f"grid_{axis}"] for axis in "xyz") == launch.grid
                assert kernel["threads"] == 32 * kernel["tactic"]
                _assemble(tmp_path / kernel["ptx"], kernel["entry"], len(kinds), kernel["threads"])


def _assemble(ptx: Path, entry: str, pointers: int, threads: int) -> None:
    from triton.knobs import nvidia

    text = ptx.read_text()
    parameters = re.search(rf"\.visible \.entry {entry}\(([^)]*)\)", text)
    assert parameters is not None
    assert [p.split()[1] for p in parameters[1].split(",")] == [".u64"] * pointers
    assert f".reqntid {threads}" in text
    assert ".version 8.0" in text, "a driver of CUDA 12.0 takes this"
    command = [nvidia.ptxas.path, "-v", "--gpu-name=sm_86", str(ptx), "-o", str(ptx.with_suffix(".cubin"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 bytes spill stores, 0 bytes spill loads" in done.stderr


def test_scratch_that_is_used_is_not_taken_away() -> None:
    plugins = pytest.importorskip("kernels.tensorrt_plugins")
    head = ".visible .entry k(\n\t.param .u64 k_param_0"
    ptx = head + ",\n\t.param .u64 k_param_1\n)\n{ ld.param.b64 %r, [k_param_1]; }"
    with pytest.raises(ValueError, match="k uses k_param_1, which TensorRT does not pass"):
        plugins.without_scratch(ptx, "k", 1)
    unused = ptx.replace("[k_param_1]", "[k_param_0]")
    assert plugins.without_scratch(unused, "k", 1).startswith(
        ".visible .entry k(\n\t.param .u64 k_param_0\n)"
    )
    with pytest.raises(ValueError, match="no entry point other"):
        plugins.without_scratch(ptx, "other", 1)


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("preset", ["lite", "paper"])
def test_fused_graph_computes_what_the_portable_one_does(preset: str, half: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RMGN(PRESETS[preset]).eval()
    if model.generator.palette is not None:
        torch.nn.init.normal_(model.generator.palette.mask[-1].weight)  # untrained they are even
    bundle = write_bundle(model, tmp_path / "bundle", 128, 96, half=half, fused=True)
    graph = onnx.load(bundle.path("tryon.fused"))
    nodes = [node.op_type for node in graph.graph.node if node.domain == DOMAIN]
    assert set(nodes) == {body.name for body in graph.functions}
    rule = "ComposeFlow" + model.config.pixel_rule.capitalize()
    counts = {"FlowWarpBorder": 10, "FlowWarpZeros": 1, rule: 9, "LocalCorrelation": 5, "BlendResidual": 18}
    assert {name: nodes.count(name) for name in counts} == counts
    inputs = {name: value.numpy() for name, value in sample_inputs(128, 96, seed=2).items()}
    fused, expected = run_fused(bundle, inputs), reference(model, inputs)
    still = identity_flow(128, 96).numpy()
    assert np.abs(expected["flow"] - still).mean() > 0.01, "a flow that stands still proves nothing"
    for against in (expected, run_engine(bundle, "onnxruntime", inputs)):
        rows = {row.output: row for row in compare("fused", against, fused)}
        assert rows["flow"].mean_pixels is not None
        assert rows["flow"].mean_pixels < (0.05 if half else 1e-3)
        assert all(row.psnr > (45 if half else 80) for row in rows.values()), rows


@pytest.mark.parametrize(
    ("sm", "version"), [(75, 80), (90, 80), (100, 87), (103, 88), (110, 90), (120, 87), (121, 88)]
)
def test_ptx_is_of_a_version_that_knows_the_gpu(sm: int, version: int) -> None:
    """And no later one, which drivers of that time refuse; by NVIDIA's PTX manual."""
    plugins = pytest.importorskip("kernels.tensorrt_plugins")
    assert plugins.ptx_version(sm) == version
