"""One program at a time fills a folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import build_plans, tensorrt_engine
from engines.program import InputError
from engines.sole_writer import sole_writer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no folders")

# Holds the folder of its argument, with a worker beside it, until it is ended.
HOLDER = """
import os, pathlib, sys, time
from engines.sole_writer import sole_writer
with sole_writer(pathlib.Path(sys.argv[1])):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str], int]]:
    """A folder that another program writes into, that program, and its worker's number."""
    folder = tmp_path / "held"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        worker = int(child.stdout.readline())
        try:
            yield folder, child, worker
        finally:
            child.kill()
            os.kill(worker, signal.SIGKILL)


def _take(folder: Path) -> None:
    with sole_writer(folder):
        pass


def test_the_second_writer_is_refused(tmp_path: Path) -> None:
    with sole_writer(tmp_path):
        with pytest.raises(InputError, match="another program is writing into"):
            _take(tmp_path)
        (other := tmp_path / "other").mkdir()
        _take(other)
    _take(tmp_path)
    assert list(tmp_path.iterdir()) == [other], "nothing is left behind"


def test_a_killed_programs_worker_holds_nothing(holder: tuple[Path, subprocess.Popen[str], int]) -> None:
    folder, program, worker = holder
    with pytest.raises(InputError):
        _take(folder)
    program.kill()
    program.wait()
    os.kill(worker, 0)  # it lives
    deadline = time.monotonic() + 60
    while True:  # until the worker, which may only have begun, has let go
        try:
            return _take(folder)
        except InputError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_plans_are_built_by_one_program(
    identity_bundle: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(identity_bundle)
    folder = identity_bundle()
    monkeypatch.setattr(tensorrt_engine, "installed", lambda: ["tensorrt"])
    with sole_writer(folder):
        assert build_plans.main([str(folder)]) == 2
    assert capsys.readouterr().err.startswith(f"error: another program is writing into {folder}")
