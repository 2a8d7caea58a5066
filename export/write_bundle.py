"""Write a model as a bundle folder (see engines.bundle for its format)."""

import dataclasses
import datetime
import importlib.metadata
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines import onnxruntime_engine, reference
from engines.bundle import MANIFEST, Bundle, Graph, Part, load, sha256
from engines.protocol import Engine, EngineError, TensorSpec
from engines.session import open_graphs
from engines.whole_file import naming, put_on_disk
from export.graphs import GARMENT_INPUTS, TRYON_OUTPUTS, GarmentGraph, TryOnGraph, prepare, pyramid_names
from export.graphs import sample_inputs as make_inputs
from export.half_storage import store_halves
from export.onnx_export import OPSET, export_onnx
from export.quantise import Budget, quantise
from export.samples import Sample
from export.shapes_alone import shapes_alone
from kernels.onnx_nodes import fused_nodes
from rmgn import RMGN

RANGES = {
    "person": (-1.0, 1.0),
    "garment": (-1.0, 1.0),
    "garment_mask": (0.0, 1.0),
    "rendered": (-1.0, 1.0),
    "composite_mask": (0.0, 1.0),
    "tryon": (-1.0, 1.0),
}


def write_bundle(
    model: RMGN,
    out: Path,
    height: int,
    width: int,
    half: bool = False,
    *,
    torch_programs: bool = False,
    fused: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
    calibration: Sequence[Sample] = (),
    quality: Mapping[str, Any] | None = None,
    example: Sample | None = None,
    check: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Export `model` into the folder `out`, which appears when complete and replaces an older bundle.

    Files there that are no part of a bundle stay.

    half: float16 graphs with float32 islands, inputs and outputs. torch_programs: also write
    torch.export programs for the torch engine. fused: also write the try-on graph (and program) with the
    project's kernels as nodes, for GPUs. progress: called with the name of each step.
    calibration: samples of export.samples.read_samples; where given, the try-on graph becomes INT8.
    quality: what an evaluation of the weights measured, for `metrics`.
    example: of what the bundle's reference shows (engines.reference); smooth random pictures where None.
    check: called with the bundle while it lies beside `out`; what it raises leaves `out` as it was, what it
    adds to the folder comes along.
    Raises EngineError where `out` holds something that is not a bundle, or where INT8 meets another form.
    """
    check_out(out)
    out = out.resolve()  # a symbolic link stays
    if calibration and (half or fused):
        raise EngineError("INT8 goes with neither float16 nor the fused graph: write two bundles")
    out.parent.mkdir(parents=True, exist_ok=True)
    announce = progress or (lambda _: None)
    inner = prepare(model, half)
    samples = make_inputs(height, width)
    levels = pyramid_names(model)
    garment_feeds = {name: samples[name] for name in GARMENT_INPUTS}
    tryon_feeds = _tryon_feeds(inner, samples)

    with naming(out), tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        work = Path(folder) / out.name
        work.mkdir()
        graphs: dict[str, Graph] = {}
        metrics: dict[str, Any] = {"quality": quality} if quality else {}
        parts: list[tuple[str, nn.Module, dict[str, Tensor], tuple[str, ...]]] = [
            ("garment", GarmentGraph(inner), garment_feeds, levels),
            ("tryon", TryOnGraph(inner), tryon_feeds, TRYON_OUTPUTS),
        ]
        for name, module, feeds, outputs in parts:
            announce(f"{name}.onnx")
            export_onnx(module, feeds, outputs, work / f"{name}.onnx")
            if name == "tryon" and calibration:
                announce("INT8: measuring layers")
                encoded = [_tryon_feeds(inner, sample) for sample in calibration]
                metrics["int8"] = _int8(module, work / f"{name}.onnx", encoded)
            elif not half:
                store_halves(work / f"{name}.onnx")
            graphs[name] = _describe(work / f"{name}.onnx", module, feeds, outputs)
            if torch_programs:
                announce(f"{name}.pt2")
                graphs[f"{name}.torch"] = _program(module, feeds, work / f"{name}.pt2", graphs[name])
        if fused:
            announce("tryon.fused.onnx")
            kept = TryOnGraph(prepare(model, half, portable=False))
            graphs["tryon.fused"] = _fused(kept, tryon_feeds, work / "tryon.fused.onnx", graphs["tryon"])
            if torch_programs:
                announce("tryon.fused.pt2")
                with fused_nodes():
                    program = _program(kept, tryon_feeds, work / "tryon.fused.pt2", graphs["tryon"])
                graphs["tryon.torch.fused"] = program
        bundle = Bundle(
            folder=out,
            model=dataclasses.asdict(model.config),
            height=height,
            width=width,
            precision="int8" if calibration else "float16" if half else "float32",
            opset=OPSET,
            graphs=graphs,
            provenance={**(provenance or {}), "exported": _exported()},
            metrics=metrics,
        )
        announce(reference.FILE)
        bundle = dataclasses.replace(bundle, reference=_reference(bundle, work, example or samples))
        (work / MANIFEST).write_text(bundle.to_json(), encoding="utf-8")
        if check:
            check(load(work))
        for file in filter(Path.is_file, work.rglob("*")):  # before the older bundle is given up
            put_on_disk(file)
        _put_in_place(work, out, Path(folder) / "replaced")
    return load(out)


def _put_in_place(new: Path, out: Path, replaced: Path) -> None:
    """Give the folder `new` the name `out`; an older bundle of that name goes to `replaced`."""
    if out.exists():
        _keep_foreign(out, new)
    try:
        if out.exists():
            out.rename(replaced)
        new.rename(out)
    except BaseException:
        if replaced.exists():
            replaced.rename(out)
        raise


def _program(module: nn.Module, feeds: Mapping[str, Tensor], path: Path, like: Graph) -> Graph:
    """Write a torch program; it has the inputs and outputs of the graph `like`."""
    with torch.no_grad():  # else it holds the form of γ and β that is for training, see rmgn.generator.affine
        program = torch.export.export(module, tuple(feeds.values()))
    whole = io.BytesIO()  # on a full disk PyTorch's own writer of files ends the process
    torch.export.save(program, whole)
    path.write_bytes(whole.getbuffer())
    return dataclasses.replace(like, file=path.name, sha256=sha256(path))


def _fused(module: nn.Module, feeds: dict[str, Tensor], path: Path, like: Graph) -> Graph:
    """Write the try-on graph with the project's kernels as nodes; the garment's holds none of them."""
    export_onnx(module, feeds, TRYON_OUTPUTS, path, fused=True)
    return dataclasses.replace(like, file=path.name, sha256=sha256(path))


def _reference(bundle: Bundle, folder: Path, example: Sample) -> Part:
    """Write what ONNX Runtime makes of an example with the portable graphs in `folder`."""
    there = dataclasses.replace(bundle, folder=folder)
    person, garment, mask = reference.inputs_of(
        *(example[name].numpy() for name in ("person", *GARMENT_INPUTS))
    )

    def open_graph(graph: str) -> Engine:
        return onnxruntime_engine.open_engine(there, graph)

    with open_graphs(there, "onnxruntime", open_graph) as session:
        session.wear(session.encode(garment, mask))
        results = session.run(person)
    path = folder / reference.FILE
    reference.write(path, (person, garment, mask), results)
    return Part(path.name, sha256(path))


def _tryon_feeds(inner: RMGN, sample: Sample) -> dict[str, Tensor]:
    """Inputs of the try-on graph in its order: a sample and the pyramid of its garment."""
    garment = {name: sample[name] for name in GARMENT_INPUTS}
    with torch.no_grad(), shapes_alone(inner):
        pyramid = GarmentGraph(inner)(*garment.values())
    return {"person": sample["person"], **garment, **dict(zip(pyramid_names(inner), pyramid, strict=True))}


def _int8(module: nn.Module, path: Path, feeds: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
    """Quantise the graph at `path`; what of it became INT8, for `metrics` in bundle.json."""
    choices = quantise(module, path, feeds, Budget(), TRYON_OUTPUTS)
    taken = [choice for choice in choices if choice.taken]
    share = sum(choice.macs for choice in taken) / max(1, sum(choice.macs for choice in choices))
    return {
        "samples": len(feeds),
        "share_of_candidates": round(share, 3),
        "kept_in_float32": sorted(choice.group for choice in choices if not choice.taken),
    }


def check_out(out: Path) -> None:
    """Raise EngineError unless `out` is free, an empty folder, or a bundle to replace."""
    if out.name in ("", ".."):
        raise EngineError(f"--out {out} has no name: a bundle is a folder that is replaced as a whole")
    if os.path.ismount(os.path.realpath(out)):
        raise EngineError(f"--out {out} is a mount point, which cannot be replaced: name a folder in it")
    free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not free and not (out / MANIFEST).is_file():
        raise EngineError(f"{out} exists and is not a bundle; it is left alone. Choose another --out.")


def _keep_foreign(old: Path, new: Path) -> None:
    """Copy what a bundle's folder holds that is none of its own files, such as a checkpoint or a card."""
    try:
        own = {part.file for part in load(old).parts()}
    except EngineError:  # damaged, or of another version: what its parts are called
        graphs = {f"{name}{end}" for name in ("garment", "tryon", "tryon.fused") for end in (".onnx", ".pt2")}
        own = graphs | {reference.FILE}
    for path in old.iterdir():
        # What is not its own may still have the name of a part that is new.
        if path.name not in own | {MANIFEST, "plans"} and not (new / path.name).exists():
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, new / path.name, symlinks=True)
            else:
                shutil.copy2(path, new / path.name, follow_symlinks=False)


def _describe(path: Path, module: nn.Module, feeds: Mapping[str, Tensor], outputs: tuple[str, ...]) -> Graph:
    with torch.no_grad(), shapes_alone(module):
        results = module(*feeds.values())

    def specs(tensors: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, tuple(tensor.shape), *RANGES.get(name, (None, None)))
            for name, tensor in tensors.items()
        )

    return Graph(path.name, sha256(path), specs(feeds), specs(dict(zip(outputs, results, strict=True))))


def _exported() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxsim")}
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), **versions}
