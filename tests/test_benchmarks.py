"""What the benchmarks have in common."""

import itertools
import re

from benchmarks.common import in_turns, line, machine


def test_the_machine_is_described() -> None:
    about = machine("numpy", "no_such_module")
    assert {"CPU", "cores", "python", "numpy", "commit", "date"} <= set(about)
    assert about["CPU"]
    assert "no_such_module" not in about
    assert re.fullmatch(r"[0-9a-f]{7,}|unknown", about["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"])
    assert line({"CPU": "fast", "cores": 2}) == "CPU fast, cores 2"


def test_ways_take_turns() -> None:
    called: list[tuple[str, int]] = []
    ticks = itertools.count()
    ways = {name: lambda number, name=name: called.append((name, number)) for name in "ab"}
    seconds = in_turns(ways, rounds=2, now=lambda: float(next(ticks)), warm_up=1)
    assert called == [(name, number) for number in range(3) for name in "ab"]
    assert seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
