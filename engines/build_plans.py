"""Build the TensorRT plans of a bundle that is there already: on a Jetson or an RTX PC, without PyTorch.

python -m engines.build_plans models/lite-256-fp16
python -m engines.build_plans bundles/rmgn --compute-capability 8.6,8.9    # TensorRT-RTX, also without a GPU
"""

import argparse
import contextlib
import filecmp
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tqdm import tqdm

from engines import tensorrt_engine
from engines.bundle import Bundle, load
from engines.device import compute_capability
from engines.program import Parser, run
from engines.protocol import Engine, EngineError
from engines.session import open_graphs
from engines.sole_writer import sole_writer
from engines.tensorrt_build import FORMS
from engines.whole_file import write_whole

log = logging.getLogger(__name__)

GRAPHS = ("garment", "tryon")

# Of a name, what shows the progress of the work within.
Watch = Callable[[str], AbstractContextManager[tensorrt_engine.Progress]]


def capabilities(text: str) -> list[tuple[int, int]]:
    """Parse "8.6,8.9"; what is named twice counts once."""
    if not re.fullmatch(r"\d+\.\d(,\d+\.\d)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of compute capabilities such as 8.6,8.9")
    pairs = (item.split(".") for item in text.split(","))
    return list(dict.fromkeys((int(major), int(minor)) for major, minor in pairs))


def require_rtx(targets: Sequence[tuple[int, int]] | None) -> None:
    """Raise EngineError where compute capabilities are asked for and TensorRT-RTX is not installed."""
    if targets and tensorrt_engine.RTX not in tensorrt_engine.installed():
        raise EngineError(
            "--compute-capability is for TensorRT-RTX, and that is not installed "
            "(pip install 'rmgn[tensorrt-rtx]')"
        )


def build_plans(
    bundle: Bundle, targets: Sequence[tuple[int, int]] | None, watch: Watch
) -> tuple[list[str], list[str]]:
    """Build both graphs with every library that is installed; returns (what was built, what was not and why).

    Where their GPU is here, plans that do not compute the bundle's reference are no success; others are
    checked when they are opened. What fails leaves the plans of before.
    targets: compute capabilities of a TensorRT-RTX plan, which then is the only one, and has to succeed.
    Raises EngineError where it does not, InputError where another program builds plans of the bundle.
    """
    with sole_writer(bundle.folder):
        return _build_plans(bundle, targets, watch)


def _build_plans(
    bundle: Bundle, targets: Sequence[tuple[int, int]] | None, watch: Watch
) -> tuple[list[str], list[str]]:
    built, failed = [], []
    for library in [tensorrt_engine.RTX] if targets else tensorrt_engine.installed():
        try:
            with _both_or_neither(bundle, library):
                for graph in GRAPHS:
                    _build(bundle, graph, library, targets, watch)
                checked = _runs_here(bundle, library)
                if checked:
                    _verify(bundle, library, targets, watch)
        except EngineError as error:
            if targets:  # asked for by name
                raise
            failed.append(f"{library}: no engine: {error}")
            continue
        end = ", computes the reference" if checked else ", not run here"
        built += [_described(bundle, graph, library) + end for graph in GRAPHS]
    return built, failed


def _build(
    bundle: Bundle,
    graph: str,
    library: str,
    targets: Sequence[tuple[int, int]] | None,
    watch: Watch,
    form: str = FORMS[0],
) -> None:
    try:
        with watch(f"{library}: {graph}") as progress:
            tensorrt_engine.build_plan(bundle, graph, library, targets, progress, form)
    except EngineError as error:
        raise EngineError(f"{graph}: {error}") from error


def _runs_here(bundle: Bundle, library: str) -> bool:
    """Whether the GPU of the plans that a library has just made is here."""
    here = compute_capability()
    if here is None:
        return False
    manifest = tensorrt_engine.read_manifest(bundle, "tryon", library)
    return "{}.{}".format(*here) in manifest.compute_capabilities


def _verify(bundle: Bundle, library: str, targets: Sequence[tuple[int, int]] | None, watch: Watch) -> None:
    """Raise EngineError unless the plans compute the bundle's reference.

    A try-on plan that does not is built again: without the project's kernels where it has them, and at last
    without the library's own GridSample, which has been wrong before.
    """
    try:
        _run_reference(bundle, library)
    except EngineError as error:
        form = tensorrt_engine.read_manifest(bundle, "tryon", library).form
        if form == FORMS[-1]:
            raise
        if form == "fused":
            log.warning("with the project's kernels: %s; so they are left out", error)
        else:
            log.warning("with %s's own GridSample: %s; so the warp is built of gathers", library, error)
        _build(bundle, "tryon", library, targets, watch, FORMS[FORMS.index(form) + 1])
        _verify(bundle, library, targets, watch)


@contextlib.contextmanager
def _both_or_neither(bundle: Bundle, library: str) -> Iterator[None]:
    """Where the block does not get to its end, both plans are as they were: one alone is of no use."""
    plans = [tensorrt_engine.plan_path(bundle, graph, library) for graph in GRAPHS]
    files = [file for plan in plans for file in tensorrt_engine.plan_files(plan)]
    with tempfile.TemporaryDirectory() as folder:
        kept = {path: shutil.copy(path, folder) for path in files if path.is_file()}
        try:
            yield
        except BaseException:
            both = all(plan in kept for plan in plans)
            for path in files:  # none is away meanwhile: this may be interrupted too
                if not both or path not in kept:
                    path.unlink(missing_ok=True)
                elif not path.is_file() or not filecmp.cmp(path, kept[path], shallow=False):
                    write_whole(path, Path(kept[path]).read_bytes())
            with contextlib.suppress(OSError):  # there are others
                plans[0].parent.rmdir()
            raise


def _run_reference(bundle: Bundle, library: str) -> None:
    def open_graph(graph: str) -> Engine:
        return tensorrt_engine.open_plan(bundle, graph, library)

    open_graphs(bundle, library, open_graph, verify=True).close()


def _described(bundle: Bundle, graph: str, library: str) -> str:
    path = tensorrt_engine.plan_path(bundle, graph, library)
    manifest = tensorrt_engine.read_manifest(bundle, graph, library)
    return (
        f"{path.relative_to(bundle.folder)}: {path.stat().st_size / 1e6:.1f} MB, "
        f"{library} {manifest.version}, compute capability {', '.join(manifest.compute_capabilities)}"
    )


@contextlib.contextmanager
def _bar(label: str) -> Iterator[tensorrt_engine.Progress]:
    with tqdm(total=1, desc=label, bar_format="{desc} |{bar}| {elapsed}") as bar:

        def update(phase: str, done: int, total: int) -> None:
            bar.set_description_str(f"{label}: {phase}", refresh=False)
            bar.total, bar.n = max(total, 1), done
            bar.refresh()

        yield update


def command(argv: Sequence[str] | None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder with bundle.json")
    parser.add_argument(
        "--compute-capability",
        type=capabilities,
        metavar="LIST",
        help="GPUs of a TensorRT-RTX plan: 8.6,8.9 (the one here; without one 8.6, 8.9 and 12.0)",
    )
    args = parser.parse_args(argv)
    require_rtx(args.compute_capability)
    if not tensorrt_engine.installed():
        raise EngineError(f"there is no TensorRT here ({tensorrt_engine.INSTALL})")
    bundle = load(args.bundle)
    if bundle.precision == "int8":
        raise EngineError(f"{args.bundle} is INT8, made for OpenVINO on a CPU: take a float16 bundle")
    built, failed = build_plans(bundle, args.compute_capability, _bar)
    for line in built:
        print(line)
    if not built:
        raise EngineError("; ".join(failed))
    for line in failed:
        print(line, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
