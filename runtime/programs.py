"""The command `rmgn`: every program by a short name. `rmgn train …` is `python -m rmgn.train …`."""

import re
import runpy
import signal
import sys
import threading
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import version
from typing import NamedTuple

from engines.program import EXIT_BAD_INPUT, Parser, end_at_once, say

OURS = frozenset({"rmgn", "kernels", "export", "engines", "runtime"})
OPENCV_NEEDS = (
    "For OpenCV, install libgl1 and libglib2.0-0, or on a machine without a display its headless package: "
    "README, Install"
)


class Program(NamedTuple):
    """A module to run, the extras that it needs, and what it does."""

    module: str
    extras: str
    does: str

    @property
    def package(self) -> str:
        """What pip installs for it."""
        return f"'rmgn[{self.extras}]'" if self.extras else "rmgn"


PROGRAMS = {
    "mirror": Program("runtime.mirror", "", "the try-on mirror, for a camera or a clip"),
    "tryon": Program("runtime.tryon", "", "photos of people in garments"),
    "show-mask": Program("runtime.show_mask", "", "the mask found in a garment's photo"),
    "export": Program(
        "export.build_engine", "export", "a checkpoint as a bundle of graphs and TensorRT plans"
    ),
    "build-plans": Program("engines.build_plans", "", "TensorRT plans of a bundle that is there"),
    "parity": Program("export.parity", "export", "compare bundles with PyTorch"),
    "model-repository": Program("export.model_repository", "export", "for NVIDIA's inference server"),
    "compile-kernels": Program("kernels.compile", "train,kernels", "the Triton kernels, ahead of time"),
    "convert": Program("rmgn.convert", "export", "released checkpoints, as safetensors"),
    "halve": Program("rmgn.halve", "export", "a checkpoint's weights as halves, with notes"),
    "generate": Program("rmgn.data.generate", "datagen", "people in clothes, to train and evaluate on"),
    "check": Program("rmgn.data.check", "train", "what a data set lacks"),
    "sheet": Program("rmgn.data.sheet", "datagen", "a contact sheet of generated people"),
    "dress-ahead": Program("rmgn.data.ahead", "datagen,train", "dress generated people once, for few cores"),
    "train": Program("rmgn.train", "train", "the network"),
    "evaluate": Program("rmgn.evaluate", "train,evaluate", "networks and engines, on the same data"),
    "table2": Program("rmgn.experiments.table2", "train,evaluate", "the paper's user study, blind"),
    "table3": Program("rmgn.experiments.table3", "train,evaluate", "the paper's ablation"),
    "figure5": Program("rmgn.experiments.figure5", "train,evaluate", "the paper's number of fake persons"),
    "figure6": Program("rmgn.experiments.figure6", "train,evaluate", "the paper's regional masks"),
}


def overview() -> str:
    """What `rmgn` alone prints."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:{width}}  {program.does}" for name, program in PROGRAMS.items()]
    return "\n".join(["usage: rmgn PROGRAM ...   (rmgn PROGRAM --help explains it)", "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a program, which ends as it would by `python -m`. Returns the exit code where none ran."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        say(overview())
        return 0
    name, *rest = arguments
    if name == "--version":
        say(f"rmgn {version('rmgn')}")
        return 0
    if name not in PROGRAMS:
        alike = get_close_matches(name, PROGRAMS, n=1)
        hint = f"did you mean {alike[0]}?" if alike else "`rmgn` alone lists what there is"
        print(f"error: there is no program {name}; {hint}", file=sys.stderr)
        return EXIT_BAD_INPUT
    program = PROGRAMS[name]
    sys.argv = [name, *rest]
    Parser.command = f"rmgn {name}"
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, end_at_once)  # until `engines.program.run`, behind the imports
    try:
        runpy.run_module(program.module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", *OURS, *sys.stdlib_module_names}:
            raise
        print(
            f"error: rmgn {name} needs {missing}, which is not installed: pip install {program.package}",
            file=sys.stderr,
        )
        return EXIT_BAD_INPUT
    except ImportError as error:
        library = re.match(r"(\S+\.so\S*): cannot open shared object", str(error))
        if library is None:
            raise
        print(f"error: rmgn {name} needs the system's library {library[1]}. {OPENCV_NEEDS}", file=sys.stderr)
        return EXIT_BAD_INPUT
    finally:
        if signal.getsignal(signal.SIGINT) is end_at_once:
            signal.signal(signal.SIGINT, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
