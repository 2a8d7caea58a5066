"""Running plans: on a GPU where there is one, on a GPU made of host memory everywhere."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engines
import engines.device
import engines.reference
from engines import EngineError, TensorSpec, build_plans, onnxruntime_engine, tensorrt_engine
from engines.bundle import Part, sha256
from engines.device import compute_capability, open_device
from engines.protocol import HostEngine
from engines.tensorrt_build import FORMS, OPTIONS
from engines.tensorrt_engine import LIBRARIES, build_plan, installed, plan_files, plan_path
from engines.tensorrt_run import TensorRtEngine
from export.graphs import sample_inputs
from export.parity import compare, reference
from rmgn import RMGN

Inputs = dict[str, np.ndarray]


@pytest.fixture
def bundle(identity_bundle: Any, lazy: Any) -> engines.Bundle:
    """A copy of the bundle whose results are known by heart, its plans naming their graphs."""
    loaded = engines.load_bundle(identity_bundle())
    for library in LIBRARIES:
        lazy.write_plans(loaded, library)
    return loaded


NOTHING: tuple[Any, ...] = ({}, {}, {}, {}, 0)


def left(device: Any) -> tuple[Any, ...]:
    """What an engine has not given back."""
    return device.memory, device.arrays, device.waiting, device.events, device.graphs


def pictures(bundle: engines.Bundle, seed: int) -> Inputs:
    generator = np.random.default_rng(seed)
    size = (bundle.height, bundle.width)
    inputs = {name: generator.uniform(-1, 1, (1, 3, *size)) for name in ("person", "garment")}
    mask = generator.uniform(size=(1, 1, *size)) > 0.5
    return {name: value.astype(np.float32) for name, value in {**inputs, "garment_mask": mask}.items()}


@pytest.mark.parametrize(
    ("rtx", "records"), [(False, True), (False, False), (True, True)], ids=["capture", "no capture", "RTX"]
)
def test_frames_equal_onnx_runtime(lazy: Any, bundle: engines.Bundle, rtx: bool, records: bool) -> None:
    """Four frames, a change of garment, and a frame between that feeds another garment than the bound one."""
    first, second = pictures(bundle, 1), pictures(bundle, 2)
    ours, devices = lazy.open_session(bundle, rtx, records)
    with ours, engines.open(bundle, "onnxruntime") as theirs:
        for inputs in (first, second):
            worn = [s.encode(inputs["garment"], inputs["garment_mask"]) for s in (ours, theirs)]
            for name, value in worn[1].items():
                np.testing.assert_array_equal(worn[0][name], value)
            ours.wear(worn[0])
            theirs.wear(worn[1])
            changes: tuple[Inputs, ...] = ({}, {}, {"garment": first["person"]}, {})
            results = [
                [s.tryon.run({"person": inputs["person"], **feeds}) for s in (ours, theirs)]
                for feeds in changes
            ]
            for mine, expected in results:  # only now: results belong to the caller
                for name, value in expected.items():
                    np.testing.assert_array_equal(mine[name], value, err_msg=name)
            assert not np.array_equal(results[2][1]["tryon"], results[3][1]["tryon"])
    assert devices[1].replays == (7 if records and not rtx else 0), "all but the first of eight"
    for device in devices:
        assert left(device) == NOTHING
        assert device.closed


def test_the_garment_stays_on_the_device(lazy: Any, bundle: engines.Bundle) -> None:
    inputs = pictures(bundle, 3)
    ours, (_, device) = lazy.open_session(bundle)
    with ours:
        ours.wear(ours.encode(inputs["garment"], inputs["garment_mask"]))
        device.uploads.clear()
        for _ in range(3):
            ours.run(inputs["person"])
        assert device.uploads == [inputs["person"].nbytes] * 3


@pytest.mark.parametrize("first_collected", [0, 1])
def test_two_frames_under_way(lazy: Any, bundle: engines.Bundle, first_collected: int) -> None:
    """Each has its own person, and the garment worn when it began, in whichever order they are collected."""
    worn, next_worn = pictures(bundle, 5), pictures(bundle, 6)
    ours, _ = lazy.open_session(bundle)
    with ours, engines.open(bundle, "onnxruntime") as theirs:
        encoded = [theirs.encode(p["garment"], p["garment_mask"]) for p in (worn, next_worn)]
        for _ in range(3):  # a plain run, one that is recorded, one that is replayed
            expected, collect = [], []
            for garment, person in zip(encoded, (worn["person"], next_worn["person"]), strict=True):
                for opened in (ours, theirs):
                    opened.wear(garment)
                expected.append(theirs.run(person))
                collect.append(ours.tryon.begin({"person": person}))
            with pytest.raises(EngineError, match="2 runs are under way"):
                ours.run(worn["person"])
            for index in (first_collected, 1 - first_collected):
                result = collect[index]()
                for name, value in expected[index].items():
                    np.testing.assert_array_equal(result[name], value, err_msg=name)
                with pytest.raises(EngineError, match="collected already"):
                    collect[index]()
            later = ours.tryon.begin({"person": worn["person"]})  # in the memory of one of the two
            for stale in collect:
                with pytest.raises(EngineError, match="collected already"):
                    stale()
            later()


def test_copies_pass_beside_the_computation(lazy: Any, bundle: engines.Bundle) -> None:
    """The next frame is on the device before this one is computed, and this one's results leave after it."""
    inputs = pictures(bundle, 7)
    ours, (_, device) = lazy.open_session(bundle)
    with ours:
        ours.wear(ours.encode(inputs["garment"], inputs["garment_mask"]))
        waited = [ours.tryon.begin({"person": inputs["person"]}) for _ in range(2)]
        upload, compute, download = device.waiting.values()
        with device.current():
            device.synchronize(next(iter(device.waiting)))
        assert not upload
        assert compute
        assert download
        first = waited[0]()
        assert compute, "the second frame has not been waited for"
        np.testing.assert_array_equal(first["tryon"], waited[1]()["tryon"])


def test_frames_go_on_after_failed_ones(
    lazy: Any, bundle: engines.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every failure has its own cause, and what was begun no longer uses the memory of the next."""
    inputs = pictures(bundle, 9)
    ours, (_, device) = lazy.open_session(bundle)

    def fail(_: int) -> None:
        raise EngineError("the driver hiccups")

    with ours:
        ours.wear(ours.encode(inputs["garment"], inputs["garment_mask"]))
        with monkeypatch.context() as patch:
            patch.setattr(device, "wait", fail)
            for _ in range(3):
                with pytest.raises(EngineError, match="the driver hiccups"):
                    ours.run(inputs["person"])
                assert not any(device.waiting.values())
        with monkeypatch.context() as patch:
            patch.setattr(device, "mark", lambda *_: 1 / 0)  # an error of another library's
            with pytest.raises(ZeroDivisionError):
                ours.run(inputs["person"])
            assert not any(device.waiting.values())
        result = ours.run(inputs["person"])["tryon"]
    with engines.open(bundle, "onnxruntime") as theirs:
        theirs.wear(theirs.encode(inputs["garment"], inputs["garment_mask"]))
        np.testing.assert_array_equal(result, theirs.run(inputs["person"])["tryon"])


def test_closing_gives_back_what_is_under_way(lazy: Any, bundle: engines.Bundle) -> None:
    inputs = pictures(bundle, 8)
    ours, devices = lazy.open_session(bundle)
    ours.wear(ours.encode(inputs["garment"], inputs["garment_mask"]))
    collect = ours.tryon.begin({"person": inputs["person"]})
    ours.close()
    with pytest.raises(EngineError, match="closed"):
        collect()
    assert [left(device) for device in devices] == [NOTHING] * 2


def test_closing_gives_back_all_that_a_failed_gpu_takes(
    lazy: Any, bundle: engines.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, devices = lazy.open_session(bundle)
    inputs = pictures(bundle, 8)
    ours.wear(ours.encode(inputs["garment"], inputs["garment_mask"]))

    def fail(*_: Any) -> None:
        raise EngineError("an illegal address was met")

    for device in devices:
        monkeypatch.setattr(device, "synchronize", fail)
        monkeypatch.setattr(device, "destroy", fail)
    with pytest.raises(EngineError, match="illegal address"):
        ours.close()
    for device in devices:
        assert not device.memory
        assert not device.arrays
        assert not device.events
        assert device.closed
    ours.close()  # nothing is given back twice


def test_what_tensorrt_rtx_compiled_is_kept(lazy: Any, bundle: engines.Bundle) -> None:
    inputs = pictures(bundle, 4)
    for kept in (b"compiled", b"compiledcompiled"):
        ours, _ = lazy.open_session(bundle, rtx=True)
        with ours:
            ours.encode(inputs["garment"], inputs["garment_mask"])
        assert plan_path(bundle, "garment", "tensorrt_rtx").with_suffix(".cache").read_bytes() == kept


def test_misuse_is_refused(lazy: Any, bundle: engines.Bundle) -> None:
    ours, _ = lazy.open_session(bundle)
    with pytest.raises(ValueError, match="missing input"):
        ours.tryon.run({"person": pictures(bundle, 1)["person"]})
    with pytest.raises(ValueError, match="must be float32"):
        ours.tryon.bind({"garment": np.zeros((1, 3, 2, 2), np.float32)})
    ours.close()
    ours.close()
    with pytest.raises(EngineError, match="closed"):
        ours.run(pictures(bundle, 1)["person"])


def test_a_plan_that_tensorrt_refuses_leaves_nothing_behind(lazy: Any, bundle: engines.Bundle) -> None:
    plan = plan_path(bundle, "tryon", "tensorrt")
    for content, message in (
        ("nonsense", "tensorrt 0 refuses .*build it again"),
        ("garment", "other inputs"),
    ):
        plan.write_text(content)
        device = lazy.LazyDevice()
        with pytest.raises(EngineError, match=message):
            TensorRtEngine(bundle, "tryon", plan, lazy.tensorrt(bundle, device), device)
        assert left(device) == NOTHING


def test_the_stand_in_has_tensorrts_names(lazy: Any) -> None:
    """What the tests above call exists in NVIDIA's bindings under that name."""
    trt = pytest.importorskip("tensorrt_rtx")
    for own, real in (
        (lazy.Context, trt.IExecutionContext),
        (lazy.CudaEngine, trt.ICudaEngine),
        (lazy.RuntimeCache, trt.IRuntimeCache),
        (lazy.RuntimeConfig, trt.IRuntimeConfig),
    ):
        names = {name for name in vars(own) if not name.startswith("_")} - {"cache"}
        assert names <= set(dir(real)), own.__name__
    assert hasattr(trt.ICudaEngine, "num_io_tensors")
    assert hasattr(trt.Runtime, "deserialize_cuda_engine")
    assert hasattr(trt.CudaGraphStrategy, "WHOLE_GRAPH_CAPTURE")
    assert trt.float32 == trt.DataType.FLOAT


def test_drivers_functions_exist() -> None:
    """Every function of CUDA's driver that the device calls, in the installed bindings."""
    driver = pytest.importorskip("cuda.bindings.driver")
    called = re.findall(r'"(cu[A-Z]\w+)"', Path(engines.device.__file__).read_text())
    assert len(called) >= 15
    assert all(hasattr(driver, name) for name in called), called
    assert driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value == 1


def _add_reference(bundle: engines.Bundle) -> engines.Bundle:
    inputs = pictures(bundle, 9)
    exact = engines.reference.inputs_of(inputs["person"], inputs["garment"], inputs["garment_mask"])
    with engines.open(bundle, "onnxruntime") as session:
        session.wear(session.encode(*exact[1:]))
        engines.reference.write(bundle.folder / "reference.npz", exact, session.run(exact[0]))
    part = Part("reference.npz", sha256(bundle.folder / "reference.npz"))
    bundle = replace(bundle, precision="float16", reference=part)
    (bundle.folder / "bundle.json").write_text(bundle.to_json())
    return engines.load_bundle(bundle.folder)


@pytest.mark.parametrize("wrong", [FORMS[:count] for count in range(4)], ids=["none", "fused", "two", "all"])
def test_plans_that_compute_something_else_are_not_kept(
    identity_bundle: Any, wrong: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with the project's kernels are built again without them, and then without GridSample.

    What fails leaves the plans of before.

    ONNX Runtime stands in for the GPU.
    """
    bundle = _add_reference(engines.load_bundle(identity_bundle()))
    built = []

    def build(_: Any, graph: str, library: str, targets: Any, __: Any, form: str) -> None:
        if form == "fused" and (graph == "garment" or targets):
            form = "portable"
        plan = plan_path(bundle, graph, library)
        plan.parent.mkdir(exist_ok=True)
        plan.write_text(graph)
        manifest = tensorrt_engine.PlanManifest(
            bundle.digest(),
            graph,
            library,
            "0",
            ("8.6",),
            bundle.precision,
            sha256(plan),
            form,
            OPTIONS,
        )
        built.append((graph, manifest.form, targets))
        plan.with_suffix(".json").write_text(json.dumps(asdict(manifest)))

    def open_plan(_: Any, graph: str, library: str) -> engines.Engine:
        opened = onnxruntime_engine.open_engine(bundle, graph)
        assert isinstance(opened, HostEngine)
        if graph == "tryon" and tensorrt_engine.read_manifest(bundle, graph, library).form in wrong:
            compute = opened.infer
            spoilt = lambda feeds: {name: value + 0.002 for name, value in compute(feeds).items()}  # noqa: E731
            monkeypatch.setattr(opened, "infer", spoilt)
        return opened

    monkeypatch.setattr(tensorrt_engine, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: types.SimpleNamespace(__version__="0"))
    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    monkeypatch.setattr(tensorrt_engine, "open_plan", open_plan)
    monkeypatch.setattr(build_plans, "compute_capability", lambda: (8, 6))

    @contextlib.contextmanager
    def watch(_: str) -> Iterator[Any]:
        yield lambda *_: None

    plans = bundle.folder / "plans"
    if wrong == FORMS:
        monkeypatch.setattr(tensorrt_engine, "RTX", "tensorrt")
        with pytest.raises(EngineError, match="its results are not the reference's"):
            build_plans.build_plans(bundle, [(8, 6)], watch)  # asked for by name
        assert not plans.exists()
        assert built[1:] == [("tryon", "portable", [(8, 6)]), ("tryon", "gathered", [(8, 6)])]
        plans.mkdir()
        for graph in build_plans.GRAPHS:
            plan_path(bundle, graph, "tensorrt").write_text(f"older {graph}")
        built.clear()
    made, failed = build_plans.build_plans(bundle, None, watch)
    tried = FORMS[: len(wrong) + 1]
    assert built == [("garment", "portable", None), *(("tryon", form, None) for form in tried)]
    if wrong == FORMS:
        assert sorted(path.read_text() for path in plans.iterdir()) == ["older garment", "older tryon"]
        assert made == []
        assert "tensorrt: no engine: its results are not the reference's" in failed[0]
    else:
        assert len(list(plans.iterdir())) == 4
        assert failed == []
        assert all(line.endswith(", computes the reference") for line in made)
        assert tensorrt_engine.read_manifest(bundle, "tryon", "tensorrt").form == tried[-1]


def test_plans_survive_two_interrupts(identity_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes while the plans of before are put back."""
    bundle = engines.load_bundle(identity_bundle())
    files = [
        file for graph in build_plans.GRAPHS for file in plan_files(plan_path(bundle, graph, "tensorrt"))
    ]
    files[0].parent.mkdir()
    for file in files:
        file.write_text(f"older {file.name}")

    def build(*_: object) -> None:
        files[0].write_text("newer")
        raise KeyboardInterrupt

    def write(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tensorrt_engine, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    monkeypatch.setattr(build_plans, "write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        build_plans.build_plans(bundle, None, lambda _: contextlib.nullcontext(lambda *_: None))
    assert [file.read_text() for file in files[1:]] == [f"older {file.name}" for file in files[1:]]
    monkeypatch.undo()
    monkeypatch.setattr(tensorrt_engine, "installed", lambda: ["tensorrt"])
    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    files[0].write_text(f"older {files[0].name}")
    with pytest.raises(KeyboardInterrupt):
        build_plans.build_plans(bundle, None, lambda _: contextlib.nullcontext(lambda *_: None))
    assert files[0].read_text() == f"older {files[0].name}"


@pytest.mark.skipif(compute_capability() is not None, reason="there is a GPU here")
def test_without_a_gpu_the_next_engine_is_taken_and_says_why(bundle: engines.Bundle) -> None:
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(EngineError, match=r"^no NVIDIA GPU is usable here \(.+\)$"):
        open_device()
    with engines.open(bundle) as opened:
        assert opened.backend in ("openvino", "onnxruntime")
        assert "skipped tensorrt: no NVIDIA GPU is usable here" in opened.reason
    with pytest.raises(EngineError, match=r"no engine can run .*: tensorrt: no NVIDIA GPU is usable here"):
        engines.open(bundle, "tensorrt")


def test_tensorrt_is_imported_only_when_asked_for() -> None:
    code = "import sys, engines, engines.device, engines.tensorrt_engine; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pycuda", "cuda", "cuda.bindings", "tensorrt", "tensorrt_rtx"} & set(loaded)


@pytest.fixture(scope="module", params=["fused", "gathered"])
def planned(
    bundle16: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> engines.Bundle:
    """A bundle with real plans for the GPU here."""
    libraries = installed()
    if not libraries:
        pytest.skip("neither tensorrt nor tensorrt_rtx is installed")
    folder = shutil.copytree(bundle16, tmp_path_factory.mktemp("plans") / "bundle")
    bundle = engines.load_bundle(folder)
    try:
        for graph in ("garment", "tryon"):
            build_plan(bundle, graph, libraries[0], form=request.param if graph == "tryon" else "portable")
    except EngineError as error:
        if "does not build for compute capability" not in str(error):
            raise
        pytest.skip(str(error))  # TensorRT-RTX on a data centre's GPU
    return bundle


@pytest.mark.gpu
def test_plans_run_on_the_gpu(lite: RMGN, planned: engines.Bundle) -> None:
    """Parity with float32 PyTorch on a moving flow, twice over, with two sessions side by side."""
    inputs = {name: value.numpy() for name, value in sample_inputs(128, 96, seed=5).items()}
    expected = reference(lite, inputs)
    with engines.open(planned, "tensorrt") as first, engines.open(planned, "tensorrt") as second:
        for opened in (first, second):
            opened.wear(opened.encode(inputs["garment"], inputs["garment_mask"]))
        for opened in (first, second, first, second, first):
            rows = {row.output: row for row in compare("tensorrt", expected, opened.run(inputs["person"]))}
            assert rows["flow"].mean_pixels is not None
            assert rows["flow"].mean_pixels < 0.05
            assert all(row.psnr > 45 for row in rows.values()), rows
        collect = [first.begin(person) for person in (inputs["person"], -inputs["person"])]
        for under_way, person in zip(collect, (inputs["person"], -inputs["person"]), strict=True):
            np.testing.assert_array_equal(under_way()["tryon"], second.run(person)["tryon"])


@pytest.mark.gpu
def test_gpu_memory_comes_back() -> None:
    """Copies both ways on the real device, and everything given back."""
    device = open_device()
    with device.current():
        stream, staged = device.stream(), device.pinned((1, 3, 4))
        pointer = device.allocate(staged.nbytes)
        staged[:] = np.arange(12, dtype=np.float32).reshape(staged.shape)
        device.upload(pointer, staged, stream)
        device.synchronize(stream)
        staged[:] = 0
        device.download(staged, pointer, stream)
        device.synchronize(stream)
        np.testing.assert_array_equal(staged.ravel(), np.arange(12))
        device.free(pointer)
        device.unpin(staged)
        device.destroy(stream)
    device.close()


def test_specs_are_what_the_engine_offers(lazy: Any, bundle: engines.Bundle) -> None:
    ours, _ = lazy.open_session(bundle)
    with ours:
        assert ours.tryon.inputs[0] == TensorSpec("person", (1, 3, bundle.height, bundle.width), -1, 1)
        assert ours.garment.outputs == bundle.graphs["garment"].outputs


def test_reasons_of_both_libraries_are_given(
    lazy: Any, bundle: engines.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two libraries without a manifest: both reasons, and the device given back each time."""
    devices: list[Any] = []

    def opened() -> Any:
        devices.append(lazy.LazyDevice())
        return devices[-1]

    monkeypatch.setattr(tensorrt_engine, "open_device", opened)
    monkeypatch.setattr(tensorrt_engine, "installed", lambda: list(LIBRARIES))
    with pytest.raises(
        EngineError, match=r"tryon\.tensorrt\.plan or its .*; .*tryon\.tensorrt_rtx\.plan or its"
    ):
        tensorrt_engine.open_engine(bundle, "tryon")
    assert [device.closed for device in devices] == [True, True]
