"""The GPU through the real Python bindings of CUDA's driver, of which a stand-in in C plays the part."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engines import EngineError, device
from engines.device import compute_capability

STAND_IN = Path(__file__).with_name("cuda_driver_stand_in.c")
# Each part on a thread of its own, as the mirror opens, runs and closes an engine.
PROGRAM = """
import ctypes, gc, json, os, sys, threading
sys.setdlopenflags(os.RTLD_LAZY)  # pycuda's extension names functions that the stand-in has not

import numpy as np
from engines import EngineError, device

kind, said = getattr(device, sys.argv[1]), {}
gpu = kind()

def opens():
    global streams, arrays, pointers, event
    with gpu.current():
        streams = [gpu.stream(), gpu.stream()]
        arrays = [gpu.pinned((2, 3)) for _ in range(2)]
        pointers = [gpu.allocate(24) for _ in range(2)]
        event = gpu.event()

def runs():
    (first, second), (sent, got), (here, there) = streams, arrays, pointers
    with gpu.current():
        sent[:] = np.arange(6).reshape(2, 3)
        gpu.upload(here, sent, first)
        gpu.copy(there, here, 24, first)
        gpu.mark(event, first)
        gpu.follow(second, event)
        gpu.download(got, there, second)
        said["before"] = got.tolist()
        gpu.synchronize(second)
        said["copied"] = got.tolist()
        sent[:] = 7
        gpu.upload(there, sent, first)
        gpu.download(got, there, first)
        gpu.mark(event, first)
        gpu.wait(event)
        said["waited"] = got.tolist()

        def work():
            gpu.upload(here, sent, first)
            gpu.download(got, here, first)
            return True

        graph = gpu.record(first, work)
        said["graph"] = None
        if graph is not None:
            sent[:] = 9
            for _ in range(2):
                gpu.replay(graph, first)
            gpu.synchronize(first)
            said["graph"] = got.tolist()
            gpu.forget(graph)
            assert gpu.record(first, lambda: False) is None
        try:
            gpu.allocate(1 << 40)
        except EngineError as error:
            said["memory"] = str(error)

def closes():
    with gpu.current():
        for stream in streams:
            gpu.destroy(stream)
        for pointer in pointers:
            gpu.free(pointer)
        while arrays:
            gpu.unpin(arrays.pop())
        gpu.drop(event)
        gc.collect()
    gpu.close()

for part in (opens, runs, closes):
    thread = threading.Thread(target=part)
    thread.start()
    thread.join()
live = ctypes.CDLL("libcuda.so.1").stand_in_live
live.restype = ctypes.c_long
print(json.dumps({"capability": gpu.compute_capability, "live": live(), **said}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the stand-in is a library of Linux")
@pytest.mark.skipif(compute_capability() is not None, reason="the driver itself is here")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize(
    ("kind", "package"), [("CudaPythonDevice", "cuda.bindings"), ("PyCudaDevice", "pycuda")]
)
def test_the_device_through_its_binding(kind: str, package: str, tmp_path: Path) -> None:
    """Work is done when it is awaited, everything is given back, and too little memory is told."""
    pytest.importorskip(package)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(
        ["cc", "-std=gnu17", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, STAND_IN, "-ldl"],
        check=True,
    )
    found = f"{tmp_path}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind],
        env={**os.environ, "LD_LIBRARY_PATH": found},
        cwd=STAND_IN.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    recorded = kind == "CudaPythonDevice"
    assert json.loads(done.stdout) == {
        "capability": [8, 6],
        "before": [[0, 0, 0], [0, 0, 0]],
        "copied": [[0, 1, 2], [3, 4, 5]],
        "waited": [[7, 7, 7], [7, 7, 7]],
        "graph": [[9, 9, 9], [9, 9, 9]] if recorded else None,
        "memory": "cuMemAlloc failed: out of memory",
        "live": 0 if recorded else 1,  # pycuda's context stays to the end of the process
    }


def test_the_first_binding_that_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cuda-python it is pycuda; without either, what to install is told."""

    class Missing:
        def __init__(self) -> None:
            raise ImportError

    class Found:
        pass

    monkeypatch.setattr(device, "CudaPythonDevice", Missing)
    monkeypatch.setattr(device, "PyCudaDevice", Found)
    assert isinstance(device.open_device(), Found)
    monkeypatch.setattr(device, "PyCudaDevice", Missing)
    with pytest.raises(EngineError, match="neither cuda-python nor pycuda is installed"):
        device.open_device()
