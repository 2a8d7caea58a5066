"""What a run measured: rates, latencies, failures, garments worn."""

import time
from collections import Counter, deque
from typing import Any

import numpy as np

from runtime.dresser import StageTimes
from runtime.pipeline import Result

PERCENTILES = (50, 90, 99)
WINDOW_S = 2.0
LATENCIES = 10_000  # a mirror may run for weeks


class Stats:
    """Collects results: `rate` of the last seconds, latencies of the last LATENCIES frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.failed = 0
        self.rested = 0
        self._worn: Counter[str] = Counter()  # dressed frames by garment
        self._recent: deque[float] = deque(maxlen=LATENCIES)
        self._first: float | None = None
        self._last = 0.0
        self._ms: dict[str, deque[float]] = {
            name: deque(maxlen=LATENCIES) for name in (*StageTimes._fields, "total")
        }

    def add(self, result: Result) -> None:
        """Count a result that has just come."""
        now = time.monotonic()
        self.frames += 1
        self._first = now if self._first is None else self._first
        self._last = now
        self._recent.append(now)
        self.failed += result.failed
        if result.times is None:
            self.rested += not result.failed
            return
        if result.garment is not None:
            self._worn[result.garment.name] += 1
        for name, value in (*result.times._asdict().items(), ("total", result.latency_ms)):
            self._ms[name].append(value)

    @property
    def rate(self) -> float:
        """Frames a second over the last seconds; 0 when none came."""
        now = time.monotonic()
        while self._recent and now - self._recent[0] > WINDOW_S:
            self._recent.popleft()
        return (len(self._recent) - 1) / (now - self._recent[0]) if len(self._recent) > 1 else 0.0

    @property
    def fps(self) -> float:
        """Frames a second from the first result to the last; 0 before the second one."""
        span = self._last - self._first if self._first is not None else 0.0
        return (self.frames - 1) / span if span > 0 else 0.0

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Percentiles of every stage and of `total`, capture to composited; {} without a dressed frame."""
        return {
            name: {f"p{p}": round(float(np.percentile(values, p)), 3) for p in PERCENTILES}
            for name, values in self._ms.items()
            if values
        }

    def report(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "frames": self.frames,
            "failed": self.failed,
            "rested": self.rested,
            "garments": dict(self._worn),
            "fps": round(self.fps, 3),
            "latency_ms": self.latency_ms(),
        }
