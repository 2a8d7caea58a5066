"""TensorRT and TensorRT-RTX, which share one API: build a plan from a graph, and tell whose plan it is.

A plan is a file of machine code for certain GPUs, built by one version of one library from one bundle.
It lies in the bundle's folder `plans/` beside a manifest that says so, and is never loaded on trust.
"""

import importlib
import json
import logging
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engines.bundle import Bundle, sha256
from engines.device import compute_capability, open_device
from engines.program import pasted, warn_once
from engines.protocol import Engine, EngineError
from engines.tensorrt_build import FORMS, OPTIONS
from engines.tensorrt_run import TensorRtEngine
from engines.whole_file import whole_file, write_whole

log = logging.getLogger(__name__)

RTX = "tensorrt_rtx"
LIBRARIES = ("tensorrt", RTX)
INSTALL = "pip install 'rmgn[tensorrt]' on a machine with its GPU, or 'rmgn[tensorrt-rtx]' anywhere"
# TensorRT-RTX without a GPU builds for these: Ampere, Ada and Blackwell boards as found in PCs.
RTX_CAPABILITIES = ((8, 6), (8, 9), (12, 0))

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all


@dataclass(frozen=True)
class PlanManifest:
    """What a plan is tied to. `compute_capabilities` as "8.6"; `bundle` is Bundle.digest()."""

    bundle: str
    graph: str
    library: str
    version: str
    compute_capabilities: tuple[str, ...]
    precision: str
    sha256: str
    form: str  # one of tensorrt_build.FORMS
    options: str  # tensorrt_build.OPTIONS


def installed() -> list[str]:
    """Which of LIBRARIES can be imported here."""
    return [name for name in LIBRARIES if _import(name) is not None]


def plan_path(bundle: Bundle, graph: str, library: str) -> Path:
    """Where the plan of `graph` belongs; its manifest has the suffix .json."""
    return bundle.folder / "plans" / f"{graph}.{library}.plan"


def plan_files(plan: Path) -> tuple[Path, Path, Path]:
    """A plan, its manifest, and what TensorRT-RTX compiled of it for the GPU here."""
    return plan, plan.with_suffix(".json"), plan.with_suffix(".cache")


def build_plan(
    bundle: Bundle,
    graph: str,
    library: str,
    capabilities: Sequence[tuple[int, int]] | None = None,
    progress: Progress | None = None,
    form: str = FORMS[0],
) -> Path:
    """Build `graph` into a plan and write it with its manifest.

    form: of tensorrt_build.FORMS. "fused" gives way to "portable" with TensorRT-RTX, where the bundle has no
    such graph, where Triton is not here to compile its kernels, and where the build fails.
    The network is strongly typed: the graph's own types are the precision. capabilities: which GPUs the
    plan is for; TensorRT-RTX only, which needs no GPU to build (None: the GPU at hand, or else
    RTX_CAPABILITIES). TensorRT builds for the GPU at hand. Raises EngineError where that fails.
    """
    trt = _import(library)
    if trt is None:
        raise EngineError(f"{library} is not installed ({INSTALL})")
    here = compute_capability()
    if library == "tensorrt":
        if capabilities:
            raise EngineError("compute capabilities can be chosen with TensorRT-RTX only")
        if here is None:
            raise EngineError("TensorRT builds on the GPU that will run the plan, and there is none here")
        targets: Sequence[tuple[int, int]] = [here]
    else:
        targets = capabilities or ([here] if here else RTX_CAPABILITIES)

    can_fuse = library == "tensorrt" and f"{graph}.fused" in bundle.graphs and find_spec("triton")
    if form == "fused" and not can_fuse:
        form = "portable"
    path = plan_path(bundle, graph, library)
    path.parent.mkdir(exist_ok=True)
    names = targets if library == RTX else ()
    with whole_file(path) as partial:
        try:
            source = bundle.path(f"{graph}.fused" if form == "fused" else graph)
            _build(form, library, source, partial, names, progress)
        except EngineError as error:
            if form != "fused":
                raise
            log.warning("%s does not build with the project's kernels, so without them: %s", graph, error)
            form = "portable"
            _build(form, library, bundle.path(graph), partial, names, progress)
    manifest = PlanManifest(
        bundle=bundle.digest(),
        graph=graph,
        library=library,
        version=trt.__version__,
        compute_capabilities=tuple(f"{major}.{minor}" for major, minor in targets),
        precision=bundle.precision,
        sha256=sha256(path),
        form=form,
        options=OPTIONS,
    )
    write_whole(path.with_suffix(".json"), (json.dumps(asdict(manifest), indent=2) + "\n").encode())
    return path


def read_manifest(bundle: Bundle, graph: str, library: str) -> PlanManifest:
    """The manifest of a plan that belongs to this bundle and is whole.

    Raises EngineError for a plan that is missing, stale, of another library version, or damaged.
    """
    path = plan_path(bundle, graph, library)
    again = _again(bundle)
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise EngineError(f"{path} or its manifest is missing; {again}")
    try:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        content["compute_capabilities"] = tuple(content["compute_capabilities"])
        manifest = PlanManifest(**content)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        manifest_file = path.with_suffix(".json")
        raise EngineError(f"{manifest_file} is damaged, or of another version ({error}); {again}") from error
    if (manifest.bundle, manifest.graph, manifest.library) != (bundle.digest(), graph, library):
        raise EngineError(f"{path} was built from another bundle; {again}")
    if manifest.options != OPTIONS:
        raise EngineError(f"{path} was built otherwise than plans are built now ({OPTIONS}); {again}")
    trt = _import(library)
    if trt is not None and manifest.version != trt.__version__:
        raise EngineError(
            f"{path} was built by {library} {manifest.version}, here is {trt.__version__}; {again}"
        )
    if sha256(path) != manifest.sha256:
        raise EngineError(f"{path} is not the file its manifest describes: changed or cut short; {again}")
    return manifest


def open_engine(bundle: Bundle, graph: str) -> Engine:
    """Load the plan of `graph`, of TensorRT where it has one and of TensorRT-RTX otherwise.

    Raises ImportError where neither is installed, EngineError where there is no GPU or no plan that fits.
    """
    libraries = installed()
    if not libraries:
        raise ModuleNotFoundError("no TensorRT", name="tensorrt or tensorrt_rtx")
    refused = []
    for library in libraries:
        try:
            return open_plan(bundle, graph, library)
        except EngineError as error:
            refused.append(str(error))
    raise EngineError("; ".join(refused))


def open_plan(bundle: Bundle, graph: str, library: str) -> Engine:
    """Load the plan that one library made of `graph`.

    Raises EngineError where there is no GPU, or no plan that fits.
    """
    device = open_device()
    try:
        check_device(bundle, graph, library, device.compute_capability)
        return TensorRtEngine(bundle, graph, plan_path(bundle, graph, library), _import(library), device)
    except BaseException:
        device.close()
        raise


def check_device(bundle: Bundle, graph: str, library: str, here: tuple[int, int]) -> None:
    """Raise EngineError unless the plan belongs to this bundle and library, is whole, and is for this GPU."""
    manifest = read_manifest(bundle, graph, library)
    capability = "{}.{}".format(*here)
    if capability not in manifest.compute_capabilities:
        raise EngineError(
            f"{plan_path(bundle, graph, library)} is for compute capability "
            f"{', '.join(manifest.compute_capabilities)}, this GPU has {capability}; {_again(bundle)}"
        )


def _again(bundle: Bundle) -> str:
    return f"build it again with `rmgn build-plans {pasted(bundle.folder)}`"


def _import(library: str) -> types.ModuleType | None:
    try:
        return importlib.import_module(library)
    except ImportError:
        return None
    except OSError as error:  # installed, without the libraries that it loads
        warn_once(f"{library} is installed, but cannot be used: {error}")
        return None


def _build(
    form: str,
    library: str,
    onnx: Path,
    plan: Path,
    capabilities: Sequence[tuple[int, int]],
    progress: Progress | None,
) -> None:
    """Run engines.tensorrt_build, which says why it is a process of its own."""
    targets = ",".join(f"{major}.{minor}" for major, minor in capabilities)
    command = [sys.executable, "-m", "engines.tensorrt_build", form, library, str(onnx), str(plan)]
    command += [targets] * bool(targets)
    failure = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                said = _message(line)
                if isinstance(said, str):
                    failure = said
                elif said is None:  # not ours: a library that writes where it should not
                    print(line, end="", file=sys.stderr)
                elif progress is not None:
                    progress(*said)
        except BaseException:
            child.kill()  # else it would go on to write the plan
            raise
    if child.returncode:
        raise EngineError(failure or f"{library} ended while building {onnx}, {_end(child.returncode)}")


def _end(code: int) -> str:
    return f"with exit code {code}" if code > 0 else f"by {signal.Signals(-code).name}"


def _message(line: str) -> list[Any] | str | None:
    """What a line of engines.tensorrt_build says: progress, or why it failed; None of any other line."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if isinstance(said, list) and len(said) == 3:
        return said
    return str(said["error"]) if isinstance(said, dict) and set(said) == {"error"} else None
