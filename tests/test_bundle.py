"""Writing bundles, reading them back, and refusing broken ones."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import engines
from engines import EngineError, reference
from engines.bundle import load, sha256
from export.write_bundle import write_bundle
from rmgn import RMGN


@pytest.fixture
def copy(bundle32: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(bundle32, tmp_path / "bundle"))


def test_bundle_describes_its_graphs(bundle32: Path) -> None:
    bundle = engines.load_bundle(bundle32)
    assert (bundle.height, bundle.width, bundle.precision, bundle.opset) == (128, 96, "float32", 17)
    assert bundle.model["generator"] == "rmgn"
    for name in ("garment", "tryon"):
        graph = onnx.load(str(bundle.path(name)))
        onnx.checker.check_model(graph, full_check=True)
        assert graph.opset_import[0].version == 17
        assert {node.domain for node in graph.graph.node} == {""}, "standard operators alone"
        for described, values in (
            (bundle.graphs[name].inputs, graph.graph.input),
            (bundle.graphs[name].outputs, graph.graph.output),
        ):
            shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
            assert shapes == {spec.name: spec.shape for spec in described}
            assert all(v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for v in values)
    assert [s.name for s in bundle.graphs["tryon"].outputs] == ["flow", "rendered", "composite_mask", "tryon"]


def test_a_plan_belongs_to_all_graphs_of_a_bundle(bundle32: Path) -> None:
    bundle = engines.load_bundle(bundle32)
    for name, graph in bundle.graphs.items():
        other = replace(bundle, graphs={**bundle.graphs, name: replace(graph, sha256="0" * 64)})
        assert other.digest() != bundle.digest(), name


def test_half_graph_is_typed_with_float32_islands(bundle16: Path) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(bundle16 / "tryon.onnx"))).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}

    def inputs_of(operator: str) -> set[int]:
        return {types[name] for node in graph.node if node.op_type == operator for name in node.input[:2]}

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert inputs_of("Conv") == inputs_of("ConvTranspose") == {half}
    assert inputs_of("GridSample") == {single}
    assert inputs_of("InstanceNormalization") == {single}


def test_rewriting_replaces_a_bundle_and_nothing_else(lite: RMGN, copy: Path, tmp_path: Path) -> None:
    before = engines.load_bundle(copy).graphs
    (copy / "plans").mkdir()
    bundle = write_bundle(lite, copy, 64, 64)
    assert bundle.height == 64
    assert bundle.graphs != before
    assert sorted(path.name for path in copy.iterdir()) == [
        "bundle.json",
        "garment.onnx",
        "reference.npz",
        "tryon.onnx",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "no temporary folder is left"

    for here in (Path(), Path("..")):
        with pytest.raises(EngineError, match="has no name"):
            write_bundle(lite, here, 64, 64)
    with pytest.raises(EngineError, match="--out /proc is a mount point"):
        write_bundle(lite, Path("/proc"), 64, 64)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(EngineError, match="pipe exists and is not a bundle; it is left alone"):
            write_bundle(lite, tmp_path / "pipe", 64, 64)
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "me.jpg").touch()
    with pytest.raises(EngineError, match="is not a bundle; it is left alone"):
        write_bundle(lite, precious, 64, 64)
    assert (precious / "me.jpg").exists()


@pytest.mark.skipif(os.name == "nt", reason="links are POSIX's")
def test_a_link_to_a_bundle_stays(lite: RMGN, copy: Path, tmp_path: Path) -> None:
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    link.symlink_to(copy)
    dangling.symlink_to(tmp_path / "new")
    for name, folder in ((link, copy), (dangling, tmp_path / "new")):
        write_bundle(lite, name, 64, 64)
        assert name.is_symlink()
        assert engines.load_bundle(folder).height == 64


def test_interrupted_while_it_is_replaced_the_older_bundle_stays(
    lite: RMGN, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whatever else lies in its folder, links as links."""
    (tmp_path / "data").mkdir()
    for name, target in (("data", "data"), ("lost", "nowhere")):
        (copy / name).symlink_to(tmp_path / target, target_is_directory=True)
    before = sorted(path.name for path in copy.iterdir())
    rename, renamed = Path.rename, []

    def interrupted(path: Path, target: Path) -> Path:
        result = rename(path, target)
        renamed.append(path)
        if len(renamed) == 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(lite, copy, 64, 64)
    assert sorted(path.name for path in copy.iterdir()) == before
    assert write_bundle(lite, copy, 64, 64).height == 64
    assert [(copy / name).is_symlink() for name in ("data", "lost")] == [True, True]


def test_a_new_part_takes_the_name_of_a_foreign_file(lite: RMGN, copy: Path) -> None:
    """Such as of a program that an earlier export left, which the manifest no longer names."""
    (copy / "tryon.pt2").write_bytes(b"left over")
    for name in ("card.md", "mine.onnx"):
        (copy / name).write_text("kept")
    (copy / "reference.npz").write_bytes(b"cut short")
    write_bundle(lite, copy, 64, 64, torch_programs=True)
    assert "tryon.torch" in load(copy).graphs
    for name in ("card.md", "mine.onnx"):
        assert (copy / name).read_text() == "kept"


def damage_reference_name(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    content["reference"]["file"] = 7
    (folder / "bundle.json").write_text(json.dumps(content))


def damage_version(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "format_version": 99}))


def damage_opset(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "opset": 20}))


def damage_type(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "opset": "17"}))


def damage_precision(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, "precision": "bfloat16"}))


def damage_reference(folder: Path, data: bytes = b"nothing") -> None:
    """A file that the manifest describes and that is none of engines.reference."""
    (folder / "reference.npz").write_bytes(data)
    content = json.loads((folder / "bundle.json").read_text())
    content["reference"]["sha256"] = sha256(folder / "reference.npz")
    (folder / "bundle.json").write_text(json.dumps(content))


def damage_archive(folder: Path) -> None:
    damage_reference(folder, b"PK\x03\x04junk")


def lengthen_name(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"tryon.onnx"', f'"{"x" * 300}.onnx"'))


def unbound_shape(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(re.sub(r'("shape": \[\s*)1\b', r"\1Infinity", text))


def change(folder: Path, **values: object) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**content, **values}))


def damage_field(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    del content["graphs"]["tryon"]["outputs"]
    (folder / "bundle.json").write_text(json.dumps(content))


def damage_dtype(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"float32"', '"float16"'))


def rename_output(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"name": "flow"', '"name": "stream"'))


def name_no_file(folder: Path) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    content["graphs"]["tryon"]["file"] = None
    (folder / "bundle.json").write_text(json.dumps(content))


def escape(folder: Path) -> None:
    shutil.copy(folder / "tryon.onnx", folder.parent)
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"tryon.onnx"', '"../tryon.onnx"'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "bundle.json").unlink(), "is not a bundle: it has no bundle.json"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "bundle.json is damaged"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "bundle.json is damaged"),
        (lambda folder: (folder / "bundle.json").write_text("[" * 100_000), "bundle.json is damaged"),
        (damage_reference_name, "bundle.json names 7, which is missing"),
        (lambda folder: change(folder, height=512), "bundle.json is damaged .the graph garment has"),
        (damage_dtype, "bundle.json is damaged .the graph garment has garment of float16, not float32"),
        (rename_output, "bundle.json is damaged .the graph tryon has"),
        (name_no_file, "which is missing; export it again"),
        (damage_version, "has format version 99, this program reads version 1"),
        (damage_opset, "has graphs of opset 20; from 20 on TensorRT samples the nearest pixel"),
        (damage_type, r"bundle.json is damaged .*\('17', 128, 96\)"),
        (damage_precision, "bundle.json is damaged .*precision 'bfloat16'"),
        (damage_reference, "reference.npz is no reference"),
        (lambda folder: (folder / "reference.npz").unlink(), "names reference.npz, which is missing"),
        (damage_field, "bundle.json is damaged"),
        (lambda folder: (folder / "tryon.onnx").unlink(), "names tryon.onnx, which is missing"),
        (lambda folder: (folder / "tryon.onnx").write_bytes(b"?"), "tryon.onnx .* its SHA-256 differs"),
        (escape, "which is missing; export it again"),
        (damage_archive, r"reference\.npz is no reference: "),
        (lengthen_name, r"xxx\.onnx, which is missing; export it again"),
        (unbound_shape, "bundle.json is damaged"),
        (lambda folder: change(folder, height=64.0), r"bundle.json is damaged \(opset, height and width"),
        (lambda folder: change(folder, provenance=None), "bundle.json is damaged .*is no table"),
        (lambda folder: change(folder, reference={}), "bundle.json is damaged"),
    ],
    ids=[
        "no manifest",
        "no json",
        "no object",
        "depth",
        "reference name",
        "shape",
        "dtype",
        "output",
        "no file",
        "version",
        "opset",
        "type",
        "precision",
        "reference",
        "no reference",
        "field",
        "no graph",
        "changed graph",
        "path outside",
        "archive",
        "long name",
        "unbound shape",
        "size",
        "provenance",
        "no part",
    ],
)
def test_broken_bundles_are_refused(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(EngineError, match=message):
        engines.open(copy)


@pytest.mark.parametrize("broken", ["flow", "tryon"])
def test_results_that_are_no_numbers_are_not_the_reference(bundle32: Path, broken: str) -> None:
    """As where half precision overflows."""
    known = reference.read(bundle32 / reference.FILE)
    results = {name: np.repeat(np.repeat(each, 2, 2), 2, 3) for name, each in known.results.items()}
    limits = reference.LIMITS["float16"]
    assert reference.complaint(known.results, results, limits) is None
    results[broken][...] = np.nan
    complaint = reference.complaint(known.results, results, limits)
    assert complaint is not None
    assert "nan" in complaint


def test_export_leaves_the_model_as_it_was(lite: RMGN, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in lite.state_dict().items()}
    write_bundle(lite, tmp_path / "bundle", 64, 64, half=True)
    assert not lite.training
    assert not any(module.training for module in lite.modules())
    assert all(torch.equal(before[name], value) for name, value in lite.state_dict().items())
    assert next(lite.parameters()).dtype == torch.float32


def test_specs_are_enforced(bundle32: Path) -> None:
    with engines.open(bundle32, "onnxruntime") as session:
        with pytest.raises(ValueError, match="missing input"):
            session.run(np.zeros((1, 3, 128, 96), np.float32))
        with pytest.raises(ValueError, match=r"must be float32 of shape \(1, 3, 128, 96\), not float64"):
            session.run(np.zeros((1, 3, 128, 96)))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"must be float32 of shape \(1, 3, 128, 96\), not list"):
            session.run([0.0])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="unknown input 'hat'"):
            session.tryon.bind({"hat": np.zeros((1, 3, 128, 96), np.float32)})
