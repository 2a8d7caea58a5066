"""How programs end: one sentence and an exit code, whatever goes wrong."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from engines import EngineError
from engines.program import InputError, Parser, run, told
from rmgn import halve


class Failing(Dataset[int]):
    """Raises, in a DataLoader's worker, what it is made with."""

    def __init__(self, failure: Callable[[], object]) -> None:
        self.failure = failure

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        self.failure()
        return index


def two_lines() -> None:
    raise ValueError("a.png: not a picture\nValueError: as its second line says")


def a_class_of_ours() -> None:
    try:
        two_lines()
    except ValueError as error:
        raise InputError("b.png: damaged: yes") from error


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def read(failure: Callable[[], object]) -> Callable[[Sequence[str] | None], None]:
    """A program that reads one item in a worker."""

    def program(argv: Sequence[str] | None) -> None:  # noqa: ARG001
        list(DataLoader(Failing(failure), num_workers=1))

    return program


def ended(error: BaseException) -> Callable[[Sequence[str] | None], None]:
    """A program that raises this."""

    def program(argv: Sequence[str] | None) -> None:  # noqa: ARG001
        raise error

    return program


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process at once")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_told_to_end_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    code = f"""
import pathlib, sys, tempfile, time
from engines.program import run

def program(argv):
    with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}) as folder:
        pathlib.Path(folder, "half").touch()
        print("ready", flush=True)
        time.sleep(60)

sys.exit(run(program))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        assert running.communicate(timeout=60)[1] == "interrupted\n"
    assert running.returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="signals to groups are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_of_a_program_told_to_end_say_nothing(number: signal.Signals) -> None:
    """A DataLoader's, where the whole group is told, as a terminal, `timeout` and schedulers do."""
    code = """
import sys, time
from torch.utils.data import DataLoader
from engines.program import run
from rmgn.data.workers import begin_worker

class Slow(list):
    def __getitem__(self, index):
        time.sleep(0.05)
        return index

def program(argv):
    for number in DataLoader(Slow(range(10000)), batch_size=None, num_workers=2, worker_init_fn=begin_worker):
        if number == 4:
            print("ready", flush=True)

sys.exit(run(program))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        os.killpg(running.pid, number)
        assert running.communicate(timeout=60)[1] == "interrupted\n"
    assert running.returncode == 130


def test_a_loader_that_is_left_holds_up_no_end() -> None:
    code = """
from torch.utils.data import DataLoader
from rmgn.data.workers import begin_worker

left = iter(DataLoader(range(1000), batch_size=None, num_workers=2, worker_init_fn=begin_worker))
next(left)
kept = [left]
kept.append(kept)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=True)


def test_what_a_file_of_few_characters_cannot_hold_is_replaced() -> None:
    """As on Windows, where what a program prints goes into a file, and for names of files in no encoding."""
    program = "lambda _: print('SSIM \\u2191 \\udce9 0.8')"
    code = f"import sys; from engines.program import run; sys.exit(run({program}))"
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.split() == [b"SSIM", b"?", b"?", b"0.8"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("x.png is no picture"), 2, "error: x.png is no picture"),
        (EngineError("no GPU"), 2, "error: no GPU"),
        (ValueError("a known one"), 2, "error: a known one"),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: [Errno 2] No such file: 'x'"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("the same command goes on"), 130, "interrupted; the same command goes on"),
        (MemoryError(), 2, "error: there is too little memory: take less"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has\nmore lines"),
            2,
            "error: the GPU has too little memory (CUDA out of memory): take less",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ended(error), None, (ValueError,), memory="take less") == code
    assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(1 << 50, dtype=torch.uint8),
        lambda: cv2.resize(np.zeros((2, 2, 3), np.uint8), (1 << 24, 1 << 24)),
    ],
    ids=["PyTorch", "OpenCV"],
)
def test_what_libraries_say_where_memory_is_short_is_one_sentence(
    ask: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def program(_: object) -> None:
        ask()

    assert run(program, None, memory="take less") == 2
    assert capsys.readouterr().err == "error: there is too little memory: take less\n"


def test_other_errors_keep_their_traceback() -> None:
    for error in (ValueError("a bug"), RuntimeError("another")):
        with pytest.raises(type(error), match=str(error)):
            run(ended(error))


def test_a_program_gives_its_own_exit_code() -> None:
    assert run(lambda argv: len(argv or ""), ["a"]) == 1
    assert run(lambda _: None) == 0


def test_what_a_worker_says_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(ValueError("plain: text")) == "plain: text"
    assert run(read(two_lines), None, (ValueError,)) == 2
    said = "a.png: not a picture\nValueError: as its second line says"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert run(read(a_class_of_ours)) == 2
    assert capsys.readouterr().err == "error: b.png: damaged: yes\n"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_killed_worker_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(read(killed), memory="take a smaller --batch") == 2
    said = "error: a process of --workers was killed, as where memory runs out: take fewer, or take a smaller"
    assert capsys.readouterr().err.startswith(said)


def test_a_parser_complains_in_one_sentence() -> None:
    parser = Parser()
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("page").add_argument("--count", type=int)
    for argv in ([], ["page", "--count", "x"], ["page", "--size", "1"], ["other"]):
        with pytest.raises(InputError, match=r"\(--help explains\)$"):
            parser.parse_args(argv)


def test_empty_values_are_told() -> None:
    """As of a variable that a script did not set: an empty path would be the working folder."""
    parser = Parser()
    parser.add_argument("--source")
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("page").add_argument("--out", type=Path)
    for argv, named in (
        (["--source", "", "page"], "--source"),
        (["--source=", "page"], "--source"),
        (["page", "--out", ""], "--out"),
        (["page", "--out="], "--out"),
        ([""], "an argument"),
    ):
        with pytest.raises(InputError, match=f"^{named} has an empty value$"):
            parser.parse_args(argv)
    assert parser.parse_args(["--source=a=", "page", "--out", "x="]).source == "a="


def test_what_nobody_reads_ends_no_program() -> None:
    """Standard output is a pipe whose reader has gone."""
    code = "from engines.program import say\nfor _ in range(3): say('heard?')\nprint('more')"
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=written, stderr=subprocess.PIPE, check=False)
    os.close(written)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "module",
    [
        "rmgn.halve",
        "rmgn.experiments.figure6",
        "rmgn.experiments.table2",
        "rmgn.data.check",
        "kernels.compile",
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_is_one_line(module: str) -> None:
    code = (
        f"import importlib, sys, time\nprogram = importlib.import_module({module!r})\n"
        "def work(argv):\n    print('begun', flush=True)\n    time.sleep(60)\n"
        "program.command = work\nsys.exit(program.main([]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_while_a_program_is_imported_is_one_line() -> None:
    code = (
        "import os, runpy, signal\nfrom runtime import programs\nrun_module = runpy.run_module\n"
        "def interrupted(*words, **more):\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return run_module(*words, **more)\n"
        "runpy.run_module = interrupted\nprograms.main(['check', 'nowhere'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (["-m", "runtime.programs", "halve"], "usage: rmgn halve"),
        (["-m", "rmgn.halve"], "usage: python -m rmgn.halve"),
        (["-m", "runtime.tryon"], "usage: python -m runtime.tryon"),
        (["export/parity.py"], "usage: parity.py"),
    ],
)
def test_usage_names_the_program_as_it_was_called(command: list[str], usage: str) -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{usage} "), done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_is_full_or_closed(unbuffered: str) -> None:
    """Told in a sentence where what is printed is lost; nobody who left wants to know."""
    code = "import sys; from engines.program import run; sys.exit(run(lambda _: print('done')))"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 2
    assert re.fullmatch(r"error: \[Errno 28\] No space left on device.*\n", done.stderr)
    if unbuffered:
        return
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_that_hand_nothing_on_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """As where shared memory is too small for a batch, which PyTorch's worker only prints."""

    def program(argv: Sequence[str] | None) -> None:  # noqa: ARG001
        list(DataLoader(Failing(lambda: time.sleep(30)), num_workers=1, timeout=1))

    assert run(program) == 2
    assert "shared memory (/dev/shm) is full" in capsys.readouterr().err


def test_notes_that_are_no_text_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """What a shell passes on of other encodings."""
    assert halve.main(["--checkpoint", "a", "--out", "b", "--note", "data=\udcff"]) == 2
    assert "holds bytes that are no UTF-8" in capsys.readouterr().err
