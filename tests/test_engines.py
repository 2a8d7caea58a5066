"""Every engine that runs here against PyTorch float32, and TensorRT plans built without a GPU."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch.export import ExportedProgram

import engines
from engines import EngineError, tensorrt_build, tensorrt_engine, torch_engine
from engines.bundle import sha256
from engines.protocol import HostEngine
from engines.reference import LIMITS
from engines.tensorrt_engine import build_plan, check_device, installed, plan_path, read_manifest
from export.graphs import sample_inputs
from export.parity import compare, reference, report, run_engine
from export.write_bundle import write_bundle
from kernels import triton_runtime
from rmgn import PRESETS, RMGN

RUNNING = ["onnxruntime", "openvino", "torch"]


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the torch engine out: PyTorch takes ten seconds to read its programs."""
    monkeypatch.delitem(engines.BACKENDS, "torch")


@pytest.mark.parametrize("backend", RUNNING)
def test_float32_parity(lite: RMGN, bundle32: Path, backend: str) -> None:
    """Other orders of summation alone: float32 rounding through some sixty layers."""
    rows = _compare(lite, bundle32, backend)
    assert rows["flow"].mean_pixels is not None
    assert rows["flow"].mean_pixels < 1e-3
    assert all(row.max < 2e-3 and row.psnr > 80 for row in rows.values()), rows


@pytest.mark.parametrize("backend", RUNNING)
def test_float16_parity(lite: RMGN, bundle16: Path, backend: str) -> None:
    """Half rounding: 45 dB and a twentieth of a pixel is what a viewer cannot see."""
    rows = _compare(lite, bundle16, backend)
    assert rows["flow"].mean_pixels is not None
    assert rows["flow"].mean_pixels < 0.05
    assert all(row.psnr > 45 for row in rows.values()), rows


@pytest.mark.parametrize(("bundle", "pixels", "psnr"), [("bundle32", 1e-3, 80), ("bundle16", 0.05, 45)])
def test_parity_with_every_convolution_in_winograds_form(
    lite: RMGN,
    bundle: str,
    pixels: float,
    psnr: float,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every one whose size allows it, within what engines keep at this precision."""
    pytest.importorskip("openvino")
    from engines import openvino_engine, openvino_winograd
    from engines.openvino_winograd import LARGE, SMALL, Filtering, use_winograd

    if not openvino_winograd.X86:
        pytest.skip("for x86 alone")
    replaced = []

    def wherever(_in: int, _out: int, height: int, width: int) -> Filtering | None:
        return next((f for f in (LARGE, SMALL) if height % f.tile == width % f.tile == 0), None)

    monkeypatch.setattr(
        openvino_engine, "use_winograd", lambda model: replaced.append(use_winograd(model, wherever))
    )
    rows = _compare(lite, request.getfixturevalue(bundle), "openvino")
    assert sum(replaced) > 40
    assert rows["flow"].mean_pixels is not None
    assert rows["flow"].mean_pixels < pixels
    assert all(row.psnr > psnr for row in rows.values()), rows


def _compare(lite: RMGN, folder: Path, backend: str):  # type: ignore[no-untyped-def]
    pytest.importorskip(backend)
    bundle = engines.load_bundle(folder)
    inputs = {name: value.numpy() for name, value in sample_inputs(128, 96, seed=5).items()}
    expected = reference(lite, inputs)
    identity = np.stack(np.meshgrid((2 * np.arange(96) + 1) / 96 - 1, (2 * np.arange(128) + 1) / 128 - 1))
    assert np.abs(expected["flow"] - identity).mean() > 0.01, "a flow that stands still proves nothing"
    return {row.output: row for row in compare(backend, expected, run_engine(bundle, backend, inputs))}


@pytest.mark.parametrize(
    ("half", "psnr"),
    [pytest.param(False, 100, marks=pytest.mark.slow), (True, 60)],
    ids=["float32", "float16"],
)
def test_programs_for_gpus_call_the_kernels(lite: RMGN, tmp_path: Path, half: bool, psnr: float) -> None:
    """`--torch --fused`, channels last as on a GPU; without one the kernels run in Triton's interpreter."""
    pytest.importorskip("triton")
    bundle = write_bundle(lite, tmp_path / "fused", 64, 64, half, torch_programs=True, fused=True)
    program = torch.export.load(bundle.path("tryon.torch.fused"))
    called = {str(node.target) for node in program.graph.nodes if str(node.target).startswith("rmgn.")}
    assert called == {"rmgn.flow_warp.default", "rmgn.local_correlation.default", "rmgn.mask_fusion.default"}
    # γ and β as in use, a convolution each: halves of a common one would be copied before each kernel.
    assert not [node for node in program.graph.nodes if "chunk" in str(node.target)]

    inputs = sample_inputs(64, 64, seed=5)
    expected = reference(lite, {name: value.numpy() for name, value in inputs.items()})
    if torch.cuda.is_available():
        with engines.open(bundle, "torch") as session:
            session.wear(session.encode(inputs["garment"].numpy(), inputs["garment_mask"].numpy()))
            results = session.run(inputs["person"].numpy())
    else:
        encode = torch.export.load(bundle.path("garment.torch")).module()
        dress = program.module().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            pyramid = encode(inputs["garment"], inputs["garment_mask"])
            outputs = dress(*inputs.values(), *pyramid)
        specs = bundle.graphs["tryon"].outputs
        results = {spec.name: value.numpy() for spec, value in zip(specs, outputs, strict=True)}
    assert all(row.psnr > psnr for row in compare("torch", expected, results))


def test_where_triton_cannot_launch_pytorchs_operators_run(
    bundle32: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As without a C compiler. The CPU stands in for the GPU."""
    bundle = engines.load_bundle(bundle32)
    bundle = replace(bundle, graphs={**bundle.graphs, "tryon.torch.fused": bundle.graphs["tryon.torch"]})
    tried = []

    def on_gpu(program: ExportedProgram, *specs: Any) -> HostEngine:
        tried.append(program)
        if len(tried) == 1:
            raise RuntimeError("Failed to find C compiler")
        return torch_engine.TorchEngine(program, *specs)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(triton_runtime, "AVAILABLE", True)
    monkeypatch.setattr(torch_engine, "TorchCudaEngine", on_gpu)
    torch_engine.open_engine(bundle, "tryon").close()
    assert len(tried) == 2
    assert "Failed to find C compiler; PyTorch's own operators take their place" in caplog.text


@pytest.mark.gpu
def test_torch_on_a_gpu_keeps_two_runs_apart(bundle32: Path) -> None:
    """Results are collected in any order; what a run is fed in the place of a bound input is its own."""
    # Each graph is recorded with algorithms of cuDNN's choice, which round differently.
    assert_same = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
    inputs = {name: value.numpy() for name, value in sample_inputs(128, 96, seed=1).items()}
    with engines.open(bundle32, "torch") as session:
        session.wear(session.encode(inputs["garment"], inputs["garment_mask"]))
        people = (inputs["person"], -inputs["person"])
        alone = [session.run(person)["tryon"] for person in people]
        under_way = [session.begin(person) for person in people]
        with pytest.raises(EngineError, match="2 runs are under way"):
            session.begin(people[0])
        for collect, expected in zip(reversed(under_way), reversed(alone), strict=True):
            assert_same(collect()["tryon"], expected)
        session.tryon.run({"person": people[0], "garment": -inputs["garment"]})
        assert_same(session.run(people[0])["tryon"], alone[0])


@pytest.mark.parametrize("backend", RUNNING)
def test_worn_garment_stays_until_the_next(bundle32: Path, backend: str) -> None:
    pytest.importorskip(backend)
    first, second = ({k: v.numpy() for k, v in sample_inputs(128, 96, seed=s).items()} for s in (1, 2))
    with engines.open(bundle32, backend) as session:
        worn = [session.encode(x["garment"], x["garment_mask"]) for x in (first, second)]
        session.wear(worn[0])
        before = session.run(first["person"])["tryon"]
        kept = before.copy()
        again = session.run(first["person"])["tryon"]
        session.wear(worn[1])
        other = session.run(first["person"])["tryon"]
        for value in worn[1].values():
            value[:] = 0  # the caller's again
        bgr = first["person"][:, ::-1]  # a view, read backwards
        turned = session.run(bgr)["tryon"]
        np.testing.assert_array_equal(turned, session.run(bgr.copy())["tryon"])
        np.testing.assert_array_equal(session.run(first["person"])["tryon"], other)
    np.testing.assert_array_equal(before, again)
    np.testing.assert_array_equal(before, kept, err_msg="results belong to the caller")
    assert np.abs(other - before).max() > 0.05


@pytest.mark.usefixtures("no_torch")
def test_auto_says_what_it_took_and_what_it_skipped(bundle32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.BACKENDS, "openvino", "engines.no_such_module")
    with engines.open(bundle32) as session:
        assert session.backend == "onnxruntime"
        assert "skipped" in session.reason
        assert (
            "openvino: engines.no_such_module is not installed (pip install 'rmgn[openvino]')"
            in session.reason
        )


def test_programs_of_torch_are_missed_only_where_they_are_asked_for() -> None:
    shipped = Path(__file__).parent.parent / "models" / "lite-256"
    with engines.open(shipped) as session:
        assert "torch" not in session.reason
    with pytest.raises(EngineError, match="holds no torch programs; export it again with --torch"):
        engines.open(shipped, "torch")


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("raised", [OSError("no such DLL"), RuntimeError("no such instruction")])
def test_broken_libraries_are_skipped(
    lite: RMGN, bundle32: Path, identity_bundle: Any, raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they are imported (here by a module), while they run the reference, and their first frames.

    Nor does an export fail for them.
    """
    pytest.importorskip("openvino")
    from engines import openvino_engine

    def broken(*_: object) -> None:
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(openvino_engine, "open_engine", broken)
        with engines.open(bundle32) as session:
            assert session.backend != "openvino"
            assert f"openvino: {raised}" in session.reason
        with pytest.raises(engines.EngineError, match=str(raised)):
            engines.open(bundle32, "openvino")
    monkeypatch.setattr(openvino_engine.OpenVinoEngine, "infer", broken)
    with engines.open(bundle32) as session:
        assert session.backend != "openvino"
        assert f"skipped openvino: {raised}" in session.reason
    with engines.open(identity_bundle()) as session:  # which has no reference
        assert session.backend == "onnxruntime"
        assert f"openvino failed: {raised}" in session.reason
    rows, skipped = report(lite, engines.load_bundle(bundle32))
    assert skipped["openvino"] == str(raised)
    assert "onnxruntime" in {row.engine for row in rows}


def _nearest(engine: Any, feeds: Any) -> Any:
    """Results as of a library that samples the nearest pixel of the flow where it should interpolate."""
    results = dict(engine.true_infer(feeds))
    if "flow" in results:
        results["flow"] = np.repeat(np.repeat(results["flow"][..., ::4, ::4], 4, axis=2), 4, axis=3)
    return results


@pytest.mark.usefixtures("no_torch")
def test_an_engine_that_computes_something_else_is_not_taken(
    lite: RMGN, bundle32: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the comparison with PyTorch finds it, which an export has to pass."""
    pytest.importorskip("openvino")
    from engines.openvino_engine import OpenVinoEngine

    monkeypatch.setattr(OpenVinoEngine, "true_infer", OpenVinoEngine.infer, raising=False)
    monkeypatch.setattr(OpenVinoEngine, "infer", _nearest)
    with pytest.raises(EngineError, match=r"openvino: its results are not the reference's: .*flow [\d.]+ px"):
        engines.open(bundle32, "openvino")
    with engines.open(bundle32) as session:
        assert session.backend != "openvino"
        assert "skipped openvino: its results are not the reference's" in session.reason
    rows, _ = report(lite, engines.load_bundle(bundle32))
    assert {row.engine for row in rows if not row.within(LIMITS["float32"])} == {"openvino"}


@pytest.mark.usefixtures("no_torch")
def test_a_session_opens_anew_with_the_garment_on(bundle32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another engine where its own cannot run any more; and again later where none can."""
    pytest.importorskip("openvino")
    from engines import onnxruntime_engine, openvino_engine

    def broken(*_: object) -> None:
        raise RuntimeError("the GPU has fallen off the bus")

    inputs = {name: value.numpy() for name, value in sample_inputs(128, 96, seed=3).items()}
    with engines.open(bundle32) as session:
        session.wear(session.encode(inputs["garment"], inputs["garment_mask"]))
        before = session.run(inputs["person"])
        with monkeypatch.context() as patch:
            patch.setattr(openvino_engine, "open_engine", broken)
            session.reopen()
            assert session.backend == "onnxruntime"
            assert "fallen off the bus" in session.reason
            rows = compare("", before, session.run(inputs["person"]))
            assert all(row.within(LIMITS["float32"]) for row in rows), rows
            patch.setattr(onnxruntime_engine, "open_engine", broken)
            with pytest.raises(EngineError, match="no engine can run"):
                session.reopen()
            with pytest.raises(EngineError, match="closed"):
                session.run(inputs["person"])
        session.reopen()
        rows = compare("", before, session.run(inputs["person"]))
        assert all(row.within(LIMITS["float32"]) for row in rows), rows


def test_an_encoded_garment_is_the_sessions_own(bundle32: Path) -> None:
    """Arrays of the caller hold the next garment before this is worn; what is no garment changes nothing."""
    inputs = {name: value.numpy() for name, value in sample_inputs(128, 96, seed=4).items()}
    with engines.open(bundle32, "onnxruntime") as session:
        session.wear(session.encode(inputs["garment"], inputs["garment_mask"]))
        expected = session.run(inputs["person"])["tryon"]
        buffer, mask = inputs["garment"].copy(), inputs["garment_mask"].copy()
        encoded = session.encode(buffer, mask)
        buffer[:], mask[:] = 0.9, 1
        session.wear(encoded)
        for foreign, message in (({"hat": buffer}, "unknown input"), ({}, "missing input garment_mask")):
            with pytest.raises(ValueError, match=message):
                session.wear({"garment": buffer, **(encoded if foreign else {}), **foreign})
        for _ in range(2):
            np.testing.assert_array_equal(session.run(inputs["person"])["tryon"], expected)
            session.reopen()


def test_a_session_outlives_the_folder_that_it_was_opened_from(
    bundle32: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(bundle32.parent)
    with engines.open(bundle32.name, "onnxruntime") as session:
        monkeypatch.chdir(tmp_path)
        session.verify()
        session.reopen()


def test_a_session_does_not_open_what_has_replaced_its_bundle(bundle32: Path, tmp_path: Path) -> None:
    """The garments encoded so far would not go with its networks, and nothing would tell."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle32, folder)
    with engines.open(folder, "onnxruntime") as session:
        graph, manifest = folder / "tryon.onnx", folder / "bundle.json"
        content = json.loads(manifest.read_text())
        other = onnx.load(graph)
        other.producer_version = "another"
        onnx.save(other, graph)
        with pytest.raises(EngineError, match="SHA-256 differs"):
            session.reopen()
        content["graphs"]["tryon"]["sha256"] = sha256(graph)
        manifest.write_text(json.dumps(content))
        engines.load_bundle(folder)
        with pytest.raises(EngineError, match="holds another bundle than when it was opened"):
            session.reopen()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not copied here")
def test_a_copied_process_is_told_to_open_its_own_session(bundle32: Path) -> None:
    program = f"""
import engines, os, signal, sys
import numpy as np
with engines.open({str(bundle32)!r}, "onnxruntime") as session:
    if os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
    signal.alarm(20)
    try:
        session.run(np.zeros((1, 3, 128, 96), np.float32))
    except engines.EngineError as error:
        assert "opened by another process" in str(error)
    else:
        os._exit(1)
session.close()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.usefixtures("no_torch")
def test_auto_takes_the_one_that_it_measured_as_fastest(
    bundle32: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    closed: list[HostEngine] = []
    close = HostEngine.close

    def noted(engine: HostEngine) -> None:
        closed.append(engine)
        close(engine)

    monkeypatch.setattr(HostEngine, "close", noted)
    with engines.open(bundle32) as session:
        assert len(closed) >= 2, "what is not taken keeps no memory"
        assert not {session.garment, session.tryon} & set(closed)
        measured = re.match(r"the fastest, by milliseconds a frame: ([^;]*)", session.reason)
        assert measured, session.reason
        times = {name: float(value) for name, value in re.findall(r"(\w+) (\d+)", measured[1])}
        assert {"openvino", "onnxruntime"} <= set(times)
        assert times[session.backend] == min(times.values())


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_callers_small_numbers_stay(bundle32: Path, backend: str) -> None:
    """Engines treat denormals as zero in threads of their own alone. ONNX Runtime's first session tells."""
    pytest.importorskip(backend)
    program = f"""
import engines, numpy as np
with engines.open({str(bundle32)!r}, {backend!r}) as session:
    session.tryon.run({{spec.name: np.zeros(spec.shape, np.float32) for spec in session.tryon.inputs}})
    assert np.float64(2.0**-1070) * np.float64(2.0) > 0
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_unknown_engine(bundle32: Path) -> None:
    with pytest.raises(EngineError, match="unknown engine 'cuda'; choose one of: auto, tensorrt, openvino"):
        engines.open(bundle32, "cuda")


def test_closed_engine_refuses(bundle32: Path) -> None:
    session = engines.open(bundle32, "onnxruntime")
    session.close()
    session.close()
    picture = np.zeros((1, 3, 128, 96), np.float32)
    with pytest.raises(EngineError, match="closed"):
        session.run(picture)
    with pytest.raises(EngineError, match="closed"):
        session.tryon.bind({"garment": picture})


@pytest.mark.parametrize("backend", RUNNING)
def test_signals_are_handled_while_and_after_an_engine_lives(bundle32: Path, backend: str) -> None:
    """Ctrl-C and dying children reach Python; an engine must leave the main thread's signal stack alone."""
    pytest.importorskip(backend)
    code = f"""
import faulthandler, signal
import engines
faulthandler.enable()
caught = []
signal.signal(signal.SIGINT, lambda *_: caught.append(1))
sessions = [engines.open({str(bundle32)!r}, {backend!r}) for _ in range(2)]
signal.raise_signal(signal.SIGINT)
for session in sessions:
    session.close()
del session, sessions
signal.raise_signal(signal.SIGINT)
assert len(caught) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_report_covers_every_output_and_gives_reasons(lite: RMGN, bundle32: Path) -> None:
    rows, skipped = report(lite, engines.load_bundle(bundle32))
    assert {row.engine for row in rows} | set(skipped) == set(engines.BACKENDS)
    assert {row.output for row in rows} == {"flow", "rendered", "composite_mask", "tryon"}
    assert all(skipped.values())


@pytest.fixture(scope="module")
def planned(bundle16: Path, tmp_path_factory: pytest.TempPathFactory) -> engines.Bundle:
    """A bundle with a TensorRT-RTX plan of its try-on graph, really built."""
    if "tensorrt_rtx" not in installed():
        pytest.skip("tensorrt_rtx is not installed")
    folder = shutil.copytree(bundle16, tmp_path_factory.mktemp("planned") / "bundle")
    bundle = engines.load_bundle(folder)
    phases: list[tuple[str, int, int]] = []
    build_plan(bundle, "tryon", "tensorrt_rtx", [(8, 6), (8, 9)], lambda *phase: phases.append(phase))
    assert phases[-1][1] == phases[-1][2], "progress runs to its end"
    return bundle


def test_plan_is_built_without_a_gpu(planned: engines.Bundle) -> None:
    manifest = read_manifest(planned, "tryon", "tensorrt_rtx")
    assert manifest.compute_capabilities == ("8.6", "8.9")
    assert manifest.precision == "float16"
    assert plan_path(planned, "tryon", "tensorrt_rtx").stat().st_size > 1e6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "height", "width", "half"),
    [
        ("lite", 256, 192, True),
        ("lite", 512, 384, False),
        ("paper", 256, 192, False),
        ("paper", 512, 384, True),
    ],
)
def test_plans_of_every_preset_precision_and_size(
    preset: str, height: int, width: int, half: bool, tmp_path: Path
) -> None:
    """TensorRT-RTX takes both networks as they are exported; every pair of the three is tried."""
    if "tensorrt_rtx" not in installed():
        pytest.skip("tensorrt_rtx is not installed")
    torch.manual_seed(0)
    bundle = write_bundle(RMGN(PRESETS[preset]).eval(), tmp_path / "bundle", height, width, half)
    for graph in ("garment", "tryon"):
        plan = build_plan(bundle, graph, "tensorrt_rtx", [(8, 9)])
        manifest = read_manifest(bundle, graph, "tensorrt_rtx")
        assert manifest.precision == bundle.precision
        assert manifest.bundle == bundle.digest()
        assert plan.stat().st_size > 0.9 * bundle.path(graph).stat().st_size, "the weights are in the plan"


def damage_plan(plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)


def change(key: str, value: str):  # type: ignore[no-untyped-def]
    def damage(plan: Path) -> None:
        manifest = plan.with_suffix(".json")
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), key: value}))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_plan, "changed or cut short"),
        (lambda plan: plan.write_bytes(plan.read_bytes()[:1000]), "changed or cut short"),
        (change("bundle", "another"), "was built from another bundle"),
        (change("version", "1.0"), "was built by tensorrt_rtx 1.0, here is"),
        (change("options", "sparse"), "was built otherwise than plans are built now"),
        (lambda plan: plan.with_suffix(".json").unlink(), "or its manifest is missing"),
        (lambda plan: plan.with_suffix(".json").write_text("[]"), "is damaged"),
        (lambda plan: plan.with_suffix(".json").write_text("[" * 100_000), "is damaged"),
    ],
    ids=[
        "flipped bit",
        "truncated",
        "other bundle",
        "other version",
        "other options",
        "no manifest",
        "bad manifest",
        "deep manifest",
    ],
)
def test_foreign_and_damaged_plans_are_refused(planned, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    folder = shutil.copytree(planned.folder, tmp_path / "bundle")
    bundle = engines.load_bundle(folder)
    damage(plan_path(bundle, "tryon", "tensorrt_rtx"))
    with pytest.raises(EngineError, match=message):
        read_manifest(bundle, "tryon", "tensorrt_rtx")


def test_plans_for_other_gpus_are_refused(planned: engines.Bundle) -> None:
    check_device(planned, "tryon", "tensorrt_rtx", (8, 9))
    with pytest.raises(
        EngineError, match=r"for compute capability 8\.6, 8\.9, this GPU has 9\.0; build it again"
    ):
        check_device(planned, "tryon", "tensorrt_rtx", (9, 0))


def test_unknown_compute_capability_is_named(planned: engines.Bundle) -> None:
    with pytest.raises(EngineError, match=r"does not build for compute capability 3\.5"):
        build_plan(planned, "garment", "tensorrt_rtx", [(3, 5)])


def test_a_graph_that_tensorrt_cannot_read_is_an_error_of_ours(
    bundle16: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """TensorRT's own messages, which precede it, are passed on and do not end the build by themselves."""
    pytest.importorskip("tensorrt_rtx")
    bundle = engines.load_bundle(shutil.copytree(bundle16, tmp_path / "bundle"))
    bundle.path("tryon").write_bytes(b"no graph at all")
    with pytest.raises(EngineError, match=r"tensorrt_rtx .* cannot read .*tryon\.onnx"):
        build_plan(bundle, "tryon", "tensorrt_rtx", [(8, 9)])
    assert "tensorrt_rtx: " in capfd.readouterr().err
    assert not list(plan_path(bundle, "tryon", "tensorrt_rtx").parent.iterdir())


def test_a_build_that_is_killed_is_an_error_of_ours(
    bundle16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the system when memory is short."""
    bundle = engines.load_bundle(shutil.copytree(bundle16, tmp_path / "bundle"))
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: types.SimpleNamespace(__version__="10.8"))
    with pytest.raises(EngineError, match=r"ended while building .*tryon\.onnx, by SIGKILL"):
        build_plan(bundle, "tryon", "tensorrt_rtx", [(8, 9)])
    assert not list(plan_path(bundle, "tryon", "tensorrt_rtx").parent.iterdir())


def test_plans_compute_without_tf32(bundle32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what is asked of the library's builder, since no GPU is needed to see that."""
    trt = pytest.importorskip("tensorrt_rtx")
    make, asked = trt.Builder, []

    class Builder:
        def __init__(self, logger: object) -> None:
            self.real = make(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def build_serialized_network(self, _: object, config: Any) -> None:
            asked.append(config.get_flag(trt.BuilderFlag.TF32))

    monkeypatch.setattr(trt, "Builder", Builder)
    graph = engines.load_bundle(bundle32).path("garment")
    with pytest.raises(tensorrt_build.BuildError, match="could not build"):
        tensorrt_build.build("portable", "tensorrt_rtx", graph, tmp_path / "plan", [(8, 6)])
    assert asked == [False]


def test_plans_can_be_built_without_grid_sample(
    bundle16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    folder = shutil.copytree(bundle16, tmp_path / "bundle", ignore=shutil.ignore_patterns("plans"))
    bundle = engines.load_bundle(folder)
    build_plan(bundle, "tryon", "tensorrt_rtx", [(8, 9)], form="gathered")
    assert read_manifest(bundle, "tryon", "tensorrt_rtx").form == "gathered"

    make, seen = trt.OnnxParser, []

    def parser(network: Any, logger: object) -> Any:
        real = make(network, logger)
        seen.append(network)
        return real

    monkeypatch.setattr(trt, "OnnxParser", parser)
    monkeypatch.setattr(trt.Builder, "build_serialized_network", lambda *_: None)
    for form in ("portable", "gathered"):
        with pytest.raises(tensorrt_build.BuildError, match="could not build"):
            tensorrt_build.build(form, "tensorrt_rtx", bundle.path("tryon"), tmp_path / "plan", [(8, 9)])
    plain, gathered = ([layer.type for layer in network] for network in seen)
    assert trt.LayerType.GRID_SAMPLE in plain
    assert trt.LayerType.GRID_SAMPLE not in gathered

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(tensorrt_build.BuildError, match=r"takes the package onnx \(pip install"):
        tensorrt_build.build("gathered", "tensorrt_rtx", bundle.path("tryon"), tmp_path / "plan", [(8, 9)])


def test_a_fused_graph_that_does_not_build_gives_way_to_the_portable_one(
    bundle16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = engines.load_bundle(shutil.copytree(bundle16, tmp_path / "bundle"))
    bundle = replace(bundle, graphs={**bundle.graphs, "tryon.fused": bundle.graphs["tryon"]})
    asked = []

    def build(*arguments: object) -> None:
        form, plan = arguments[0], arguments[3]
        asked.append(form)
        if form == "fused":
            raise EngineError("no such PTX")
        assert isinstance(plan, Path)
        plan.write_bytes(b"a plan")

    monkeypatch.setattr(tensorrt_engine, "_build", build)
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: types.SimpleNamespace(__version__="10.8"))
    monkeypatch.setattr(tensorrt_engine, "compute_capability", lambda: (8, 9))
    monkeypatch.setattr(tensorrt_engine, "find_spec", lambda _: True)
    build_plan(bundle, "tryon", "tensorrt")
    assert asked == ["fused", "portable"]
    assert read_manifest(bundle, "tryon", "tensorrt").form == "portable"
    assert "without them: no such PTX" in caplog.text


def test_missing_library_names_the_extra(bundle16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: None)
    with pytest.raises(EngineError, match=r"tensorrt is not installed \(pip install 'rmgn\[tensorrt\]'"):
        build_plan(engines.load_bundle(bundle16), "tryon", "tensorrt")


@pytest.mark.slow
def test_released_network_at_full_size(released_state, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The published widths at 256x192, with the parameters that the released code was matched with.

    In float16: `tests/test_parity.py`.
    """
    from export.write_bundle import write_bundle
    from rmgn.convert import released

    model = released(released_state("rmgn_warp"), released_state("rmgn_generator"))
    bundle = write_bundle(model, tmp_path / "bundle", 256, 192)
    rows, _ = report(model, bundle)
    assert {row.engine for row in rows} >= {"onnxruntime"}
    assert all(row.psnr > 80 for row in rows), rows
