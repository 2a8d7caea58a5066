"""The rates that training shows."""

import time

import pytest
import torch

from rmgn.speedometer import Speedometer


def test_rates_are_of_the_time_since_the_last_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    speed = Speedometer(samples=8, device=torch.device("cpu"))
    for _ in range(2):
        now += 1  # for data
        speed.data_came()
        now += 3  # for the step
        speed.step_done()
    measured = speed.read()
    assert measured["samples_per_second"] == 2 * 8 / 8
    assert measured["data_share"] == 2 / 8
    assert 0.01 < measured["memory_gb"] < 1000
    now += 50  # for a validation
    speed.restart()
    now += 2
    speed.data_came()
    speed.step_done()
    measured = speed.read()
    assert (measured["samples_per_second"], measured["data_share"]) == (8 / 2, 1.0)
