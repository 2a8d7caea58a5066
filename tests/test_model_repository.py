"""The model repository against the server's own protobuf schema, and its batched graphs by running them."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

import engines
from engines import EngineError, tensorrt_engine
from export import model_repository
from export.graphs import sample_inputs
from export.model_repository import batched, main, write_repository
from export.write_bundle import write_bundle
from rmgn import RMGN
from rmgn.config import PRESETS

ROOT = Path(__file__).parent.parent


def schema() -> Any:
    """`ModelConfig` as the server publishes it; its module alone, since the client around it wants gRPC."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # made by an older protobuf than the one installed
        spec.loader.exec_module(module)
    return module


def read(folder: Path) -> dict[str, Any]:
    """Every config.pbtxt, parsed strictly: unknown fields and enumeration values are errors."""
    from google.protobuf import text_format

    module = schema()
    return {
        path.parent.name: text_format.Parse(path.read_text(), module.ModelConfig())
        for path in folder.glob("*/config.pbtxt")
    }


def test_configuration_is_the_servers(bundle32: Path, tmp_path: Path) -> None:
    bundle = engines.load_bundle(bundle32)
    out = write_repository(bundle, tmp_path / "models", max_batch=4, instances=2, kind="CPU")
    configs, module = read(out), schema()
    assert set(configs) == {"rmgn_garment", "rmgn_tryon", "rmgn"}
    for graph, name in model_repository.NAMES.items():
        config, specs = configs[name], bundle.graphs[graph]
        assert (config.name, config.platform, config.max_batch_size) == (name, "onnxruntime_onnx", 4)
        for own, theirs in ((specs.inputs, config.input), (specs.outputs, config.output)):
            assert [(s.name, s.shape[1:]) for s in own] == [(t.name, tuple(t.dims)) for t in theirs]
            assert {t.data_type for t in theirs} == {module.TYPE_FP32}
        assert list(config.dynamic_batching.preferred_batch_size) == [2, 4]
        assert config.dynamic_batching.max_queue_delay_microseconds == 2000
        (group,), (warm_up,) = config.instance_group, config.model_warmup
        assert (group.count, group.kind) == (2, module.ModelInstanceGroup.KIND_CPU)
        assert warm_up.batch_size == 1
        assert {k: tuple(v.dims) for k, v in warm_up.inputs.items()} == {
            s.name: s.shape[1:] for s in specs.inputs
        }
        assert all(value.random_data for value in warm_up.inputs.values())
        assert (out / name / "1" / "model.onnx").is_file()
    ensemble = configs["rmgn"]
    assert ensemble.platform == "ensemble"
    assert {t.name for t in ensemble.input} == {"person", "garment", "garment_mask"}
    steps = {step.model_name: step for step in ensemble.ensemble_scheduling.step}
    made = set(steps["rmgn_garment"].output_map.values()) | {t.name for t in ensemble.input}
    assert set(steps["rmgn_tryon"].input_map.values()) == made
    assert {t.name for t in ensemble.output} == set(steps["rmgn_tryon"].output_map.values())
    assert list((out / "rmgn" / "1").iterdir()) == []


def test_a_batch_gives_what_its_pictures_give_alone(bundle32: Path, tmp_path: Path) -> None:
    """Two people in two garments through both models, against a session of the bundle."""
    bundle = engines.load_bundle(bundle32)
    out = write_repository(bundle, tmp_path / "models")
    people = [{k: v.numpy() for k, v in sample_inputs(128, 96, seed=seed).items()} for seed in (1, 2)]
    feeds = {name: np.concatenate([person[name] for person in people]) for name in people[0]}
    garment, tryon = (
        ort.InferenceSession(str(out / name / "1" / "model.onnx")) for name in model_repository.NAMES.values()
    )
    encoded = garment.run(None, {name: feeds[name] for name in ("garment", "garment_mask")})
    outputs = tryon.run(None, {**feeds, **dict(zip(bundle.pyramid, encoded, strict=True))})
    with engines.open(bundle, "onnxruntime") as session:
        for index, person in enumerate(people):
            session.wear(session.encode(person["garment"], person["garment_mask"]))
            expected = session.run(person["person"])
            for spec, value in zip(bundle.graphs["tryon"].outputs, outputs, strict=True):
                np.testing.assert_allclose(value[index : index + 1], expected[spec.name], atol=2e-3)


def test_a_network_without_masks_has_one_for_each_picture_of_a_batch(tmp_path: Path) -> None:
    """The released variant of three output channels: what is 0 everywhere is as long as the batch too."""
    config = dataclasses.replace(PRESETS["lite"], composite=False, preserve=False)
    bundle = write_bundle(RMGN(config), tmp_path / "bundle", 96, 64)
    session = ort.InferenceSession(batched(bundle, "tryon").SerializeToString())
    feeds = {
        spec.name: np.full((3, *spec.shape[1:]), 0.5, np.float32) for spec in bundle.graphs["tryon"].inputs
    }
    mask = session.run(["composite_mask"], feeds)[0]
    assert mask.shape == (3, 1, 96, 64)
    assert not mask.any()


def test_graphs_that_cannot_be_batched_are_refused(
    bundle32: Path, identity_bundle: Any, tmp_path: Path
) -> None:
    fixed = engines.load_bundle(identity_bundle())
    with pytest.raises(EngineError, match=r"tryon\.onnx cannot run batches, try --max-batch 1: .*GridSample"):
        batched(fixed, "tryon")
    out = write_repository(fixed, tmp_path / "models", max_batch=1)
    unbatched = read(out)["rmgn_tryon"]
    assert unbatched.max_batch_size == 0
    (warm_up,) = unbatched.model_warmup  # of batch 0 the server would skip it
    assert warm_up.batch_size == 1
    assert tuple(warm_up.inputs["person"].dims) == fixed.graphs["tryon"].inputs[0].shape

    folder = shutil.copytree(bundle32, tmp_path / "bundle")  # one whose pictures see each other
    bundle = engines.load_bundle(folder)
    model = onnx.load(bundle.path("tryon"))
    last = next(node for node in model.graph.node if "rendered" in node.output)
    last.output[0] = "alone"
    model.graph.node.append(helper.make_node("ReduceMean", ["alone"], ["mean"], axes=[0], keepdims=1))
    model.graph.node.append(helper.make_node("Add", ["alone", "mean"], ["rendered"]))
    for node in model.graph.node:
        node.input[:] = ["alone" if name == "rendered" else name for name in node.input]
    onnx.save(model, bundle.path("tryon"))
    with pytest.raises(EngineError, match="computes batches wrongly"):
        batched(bundle, "tryon")


def test_plans_are_served_one_picture_at_a_time(
    bundle32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = engines.load_bundle(bundle32)
    with pytest.raises(EngineError, match=r"garment\.tensorrt\.plan or its manifest is missing"):
        write_repository(bundle, tmp_path / "models", plan=True)
    assert not (tmp_path / "models").exists()
    plans = tmp_path / "plans"
    plans.mkdir()
    for graph in model_repository.NAMES:
        (plans / graph).write_text(f"the plan of {graph}")
    monkeypatch.setattr(tensorrt_engine, "read_manifest", lambda *_: None)
    monkeypatch.setattr(tensorrt_engine, "plan_path", lambda _, graph, __: plans / graph)
    out = write_repository(bundle, tmp_path / "models", plan=True)
    config = read(out)["rmgn_tryon"]
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 0)
    assert tuple(config.input[0].dims) == (1, 3, 128, 96)
    assert config.instance_group[0].kind == schema().ModelInstanceGroup.KIND_GPU
    assert not config.HasField("dynamic_batching")
    assert (out / "rmgn_tryon" / "1" / "model.plan").read_text() == "the plan of tryon"


def test_command(bundle32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bundle", str(bundle32), "--out", str(tmp_path / "models"), "--device", "gpu"]
    arguments += ["--max-batch", "4", "--instances", "2"]
    assert main(arguments) == 0
    assert "rmgn_garment, rmgn_tryon, rmgn" in capsys.readouterr().out
    served = (tmp_path / "models" / "rmgn_tryon" / "config.pbtxt").read_text()
    assert "KIND_GPU" in served
    for line in ("max_batch_size: 4", "count: 2"):
        assert line in served
    assert main(arguments) == 2
    assert "models exists; choose another --out" in capsys.readouterr().err
    assert main([*arguments[:2], "--out", str(tmp_path / "new" / "..")]) == 2
    assert "has no name: name the folder to make" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert main([*arguments[:2], "--out", str(tmp_path / "other"), "--plan", "--max-batch", "4"]) == 2
    assert "leave --max-batch and --device out" in capsys.readouterr().err
    assert main([*arguments[:2], "--out", str(tmp_path / "other"), "--max-batch", "2000"]) == 2
    assert "--max-batch and --instances are 1 to 1024" in capsys.readouterr().err
    script = [sys.executable, str(ROOT / "export/model_repository.py"), "--bundle", "none", "--out", "x"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: none does not exist")
    assert json.loads((bundle32 / "bundle.json").read_text())["opset"] == 17
