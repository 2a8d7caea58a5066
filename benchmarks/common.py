"""What every benchmark says of the machine, and how ways to do one thing are timed against each other."""

import datetime
import importlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def machine(*modules: str) -> dict[str, Any]:
    """What figures depend on: processor, GPU where torch sees one, versions, commit, load and date.

    modules: names of those whose versions matter; what is not installed is left out.
    """
    found: dict[str, Any] = {"CPU": _processor(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")  # not imported for this: the frame path is measured without
    if torch is not None and torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
    found["python"] = platform.python_version()
    for name in modules:
        try:
            found[name] = importlib.import_module(name).__version__.split("-")[0]
        except ImportError:
            continue
    found["commit"] = _commit()
    if hasattr(os, "getloadavg"):
        found["load at the start"] = round(os.getloadavg()[0], 2)
    return {**found, "date": datetime.date.today().isoformat()}


def line(about: Mapping[str, Any]) -> str:
    """What `machine` found, for people."""
    return ", ".join(f"{name} {value}" for name, value in about.items())


def in_turns(
    ways: Mapping[str, Callable[[int], object]],
    rounds: int,
    now: Callable[[], float] = time.perf_counter,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds that each way took, one of each a round, so that a busy machine slows all of them.

    ways: functions of the round's number. now: the clock. The first `warm_up` rounds do not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm_up + rounds):
        for name, way in ways.items():
            start = now()
            way(number)
            if number >= warm_up:
                seconds[name].append(now() - start)
    return seconds


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    named = (each.split(":")[1].strip() for each in lines if each.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here
        return "unknown"
    return done.stdout.strip() or "unknown"
