"""The Triton kernels compiled ahead of time, which needs no GPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton has no wheels for this platform")


def test_spilling_kernels_fail_the_build(tmp_path: Path) -> None:
    """The correlation's 64 x 64 sums in the registers of one warp."""
    code = """
import sys
from dataclasses import replace
from kernels import compile as ahead
one = next(v for v in ahead.variants() if v.name == "local_correlation_float32")
ahead.variants = lambda: iter([replace(one, warps=1)])
sys.exit(ahead.main(["--compute-capability", "8.6", "--out", sys.argv[1]]))
"""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert re.search(r"local_correlation_float32 spills \d+ bytes on sm_86", done.stderr)


def test_kernels_compile_ahead_of_time(tmp_path: Path) -> None:
    """Without a GPU, for one target here; all of them in the slow test."""
    manifest = _compile(tmp_path, "8.6")
    names = {kernel["kernel"] for kernel in manifest}
    for dtype in ("float32", "float16", "bfloat16"):
        for operation in (
            "flow_warp_border",
            "flow_warp_border_nhwc",
            "local_correlation",
            "regional_mask",
            "blend_residual",
            "fused_residual_64_nhwc",
            "affine_gradient",
        ):
            assert f"{operation}_{dtype}" in names
    for kernel in manifest:
        assert kernel["spilled"] == 0
        assert 0 < kernel["registers"] <= 255
        assert f".entry {kernel['entry']}(" in (tmp_path / kernel["ptx"]).read_text()
        assert (tmp_path / kernel["cubin"]).read_bytes()[:4] == b"\x7fELF"


@pytest.mark.slow
def test_kernels_compile_for_every_generation(tmp_path: Path) -> None:
    """Turing, Hopper and Blackwell; Ampere is in the quick test."""
    assert {kernel["sm"] for kernel in _compile(tmp_path, "7.5,9.0,12.0")} == {75, 90, 120}


def _compile(out: Path, targets: str) -> list[dict[str, Any]]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "kernels.compile", "--compute-capability", targets, "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels: list[dict[str, Any]] = json.loads((out / "manifest.json").read_text())["kernels"]
    return kernels


def test_targets_named_twice_count_once() -> None:
    from kernels.compile import capabilities

    assert capabilities("8.6,12.0,8.6") == [86, 120]


def test_compile_refuses_what_it_cannot(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kernels.compile", "--out", str(tmp_path)]
    interpreted = {**os.environ, "TRITON_INTERPRET": "1"}
    for extra, message in (
        ([], "unset TRITON_INTERPRET"),
        (["--compute-capability", "ampere"], "is not a list of compute"),
        (
            ["--compute-capability", "8.6,6.1"],
            "for compute capability 7.0 and later, not 6.1 (--help explains)",
        ),
    ):
        done = subprocess.run(
            [*command, *extra], env=interpreted, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert message in done.stderr
    (tmp_path / "taken").touch()
    compiling = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    unknown = [*command, "--compute-capability", "13.7"]
    done = subprocess.run(unknown, env=compiling, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: Triton's assembler refuses: " in done.stderr
    assert "sm_137" in done.stderr
    command[-1] = str(tmp_path / "taken")
    done = subprocess.run(command, env=compiling, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: [Errno 17] File exists: '{tmp_path / 'taken'}'\n"
