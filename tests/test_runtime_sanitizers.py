"""The native core under the address and undefined behaviour sanitizers, with SSE2 and as on ARM."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pybind11 = pytest.importorskip("pybind11")
ROOT = Path(__file__).parents[1]
COMPILER = shutil.which("g++")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-D_GLIBCXX_ASSERTIONS")

# Puts the module of a path in the place of the one installed, then runs its tests.
TESTS = """
import importlib.util, sys
import pytest, runtime
spec = importlib.util.spec_from_file_location("runtime._native", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
runtime._native = sys.modules["runtime._native"] = module
sys.exit(pytest.main(["-q", "-s", "-p", "no:cacheprovider", "tests/test_runtime_native.py"]))
"""


def runtime_library(name: str) -> str:
    """The path of a library that comes with the compiler; its bare name where there is none."""
    assert COMPILER is not None
    asked = subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None or not sys.platform.startswith("linux"), reason="needs GCC on Linux")
@pytest.mark.parametrize("lanes", [[], ["-DMIRROR_PORTABLE"]], ids=["SSE2", "portable"])
def test_no_array_is_left_and_nothing_is_undefined(lanes: list[str], tmp_path: Path) -> None:
    # The sanitizer catches C++'s exceptions on their way, so that library has to be there from the start too.
    libraries = [runtime_library(f"{name}.so") for name in ("libasan", "libstdc++")]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("GCC has no sanitizers here")
    module = tmp_path / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{path}" for path in (pybind11.get_include(), sysconfig.get_path("include"))]
    source = ROOT / "runtime" / "cpp" / "bindings.cpp"
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", *SANITIZERS, *lanes, *includes]
    subprocess.run([str(part) for part in (COMPILER, *flags, source, "-o", module)], check=True)
    # Python itself frees not all that it takes.
    environment = {**os.environ, "LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", TESTS, str(module)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
