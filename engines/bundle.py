"""The bundle: a folder with `bundle.json` and the ONNX graphs it names (see docs/bundle.md)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engines.protocol import EngineError, TensorSpec

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
LAST_OPSET = 19
PRECISIONS = ("float32", "float16", "int8")


@dataclass(frozen=True)
class Graph:
    """One graph: its file's name inside the bundle, SHA-256 of its bytes, inputs and outputs in order."""

    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Part:
    """A file of the bundle and the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """The contents of a `bundle.json`; `folder` is where it was read from.

    `graphs` maps "garment" and "tryon" to the portable ONNX graphs and, where they were exported,
    "garment.torch" and "tryon.torch" to torch programs and "tryon.fused" to an ONNX graph whose nodes are the
    project's own kernels, for TensorRT; "tryon.torch.fused" is a torch program that calls them, for GPUs.
    """

    folder: Path
    model: Mapping[str, Any]
    height: int
    width: int
    precision: str
    opset: int
    graphs: Mapping[str, Graph]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    reference: Part | None = None  # see engines.reference

    @property
    def pyramid(self) -> tuple[str, ...]:
        """Names of the garment pyramid's levels, coarsest first, as `garment` puts them out."""
        return tuple(spec.name for spec in self.graphs["garment"].outputs)

    def path(self, graph: str) -> Path:
        """Where the file of `graph` lies."""
        return self.folder / self.graphs[graph].file

    def files(self) -> list[Path]:
        """All that belongs to the bundle: its manifest, its graphs and its reference."""
        return [self.folder / name for name in (MANIFEST, *(part.file for part in self.parts()))]

    def parts(self) -> "list[Graph | Part]":
        """Every file that the manifest names."""
        return [*self.graphs.values(), *([self.reference] if self.reference else [])]

    def digest(self) -> str:
        """SHA-256 over all graphs: what a built plan belongs to."""
        joined = "".join(self.graphs[name].sha256 for name in sorted(self.graphs))
        return hashlib.sha256(joined.encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `bundle.json`."""
        content = asdict(self)
        del content["folder"]
        return json.dumps({"format_version": FORMAT_VERSION, **content}, indent=2) + "\n"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load(folder: str | Path) -> Bundle:
    """Read and verify a bundle. Raises EngineError naming what is missing, foreign or damaged."""
    folder = Path(folder)
    manifest = folder / MANIFEST
    if not folder.is_dir():
        what = "is a file, not the folder of a bundle" if folder.exists() else "does not exist"
        raise EngineError(f"{folder} {what}. Make a bundle with `rmgn export --out DIR`.")
    if not manifest.is_file():
        raise EngineError(
            f"{folder} is not a bundle: it has no {MANIFEST}. Make one with `rmgn export --out DIR`."
        )
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        version = content.pop("format_version")
    except OSError as error:
        raise EngineError(f"cannot read {manifest}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(f"{manifest} is damaged ({error}). Export the bundle again.") from error
    if version != FORMAT_VERSION:
        raise EngineError(
            f"{manifest} has format version {version!r}, this program reads version {FORMAT_VERSION}. "
            "Export the bundle again with this version of the project."
        )
    try:
        content["graphs"] = {name: _graph(graph) for name, graph in content["graphs"].items()}
        if content.get("reference") is not None:
            content["reference"] = _part(**content["reference"])
        bundle = Bundle(folder=folder.absolute(), **content)  # read later, wherever the program is by then
        if not isinstance(bundle.provenance, dict) or not isinstance(bundle.metrics, dict):
            raise TypeError("provenance or metrics is no table")
        whole = bundle.opset, bundle.height, bundle.width
        if {type(number) for number in whole} != {int} or bundle.precision not in PRECISIONS:
            raise ValueError(f"opset, height and width {whole}, precision {bundle.precision!r}")
        missing = {"garment", "tryon"} - set(bundle.graphs)
        if not missing:
            _check_shapes(bundle)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise EngineError(f"{manifest} is damaged ({error}). Export the bundle again.") from error
    if missing:
        raise EngineError(
            f"{manifest} names no graph {' and '.join(sorted(missing))}. Export the bundle again."
        )
    if bundle.opset > LAST_OPSET:
        raise EngineError(
            f"{folder} has graphs of opset {bundle.opset}; from {LAST_OPSET + 1} on TensorRT samples the "
            "nearest pixel where bilinear is asked for. Export the bundle again with this version."
        )
    for part in bundle.parts():
        _verify(folder, part)
    return bundle


def _verify(folder: Path, part: Graph | Part) -> None:
    path = folder / part.file
    try:
        there = path.parent == folder and path.is_file()
    except OSError:  # of a name that no file can have
        there = False
    if not there:
        raise EngineError(f"{folder / MANIFEST} names {part.file}, which is missing; export it again.")
    if sha256(path) != part.sha256:
        raise EngineError(
            f"{path} is not the file that {MANIFEST} describes: its SHA-256 differs. "
            "It was changed or cut short; copy or export the bundle again."
        )


def _check_shapes(bundle: Bundle) -> None:
    """Raise ValueError where the graphs do not take and give what the rest of the program counts on."""
    plane = (1, 1, bundle.height, bundle.width)
    picture, flow = (1, 3, *plane[2:]), (1, 2, *plane[2:])
    garment = {"garment": picture, "garment_mask": plane}
    encoded = {spec.name: spec.shape for spec in bundle.graphs["garment"].outputs}
    dressed = {"flow": flow, "rendered": picture, "composite_mask": plane, "tryon": picture}
    for name, inputs, outputs in (
        ("garment", garment, encoded),
        ("tryon", {"person": picture, **garment, **encoded}, dressed),
    ):
        graph = bundle.graphs[name]
        for wanted, specs in ((inputs, graph.inputs), (outputs, graph.outputs)):
            found = {spec.name: spec.shape for spec in specs}
            if found != wanted:
                raise ValueError(f"the graph {name} has {found} where {wanted} belongs")
            for spec in specs:
                if spec.dtype != "float32":
                    raise ValueError(f"the graph {name} has {spec.name} of {spec.dtype}, not float32")


def _part(file: str, sha256: str) -> Part:
    return Part(str(file), sha256)


def _graph(content: Mapping[str, Any]) -> Graph:
    def specs(key: str) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(**{**spec, "shape": tuple(map(int, spec["shape"]))}) for spec in content[key])

    return Graph(str(content["file"]), content["sha256"], specs("inputs"), specs("outputs"))
