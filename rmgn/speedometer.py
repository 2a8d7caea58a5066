"""How fast training goes and what it waits for."""

import time

import psutil
import torch


class Speedometer:
    """Rates since the last `read`; samples: of one step, over all processes."""

    def __init__(self, samples: int, device: torch.device) -> None:
        self.samples, self.device = samples, device
        self.restart()

    def restart(self) -> None:
        """Leave out what was between: validation, pictures."""
        self.begun = self.asked = time.perf_counter()
        self.waited, self.steps = 0.0, 0

    def data_came(self) -> None:
        """Call when the data of a step are there."""
        self.waited += time.perf_counter() - self.asked

    def step_done(self) -> None:
        """Call after a step, before the next one's data are asked for."""
        self.steps += 1
        self.asked = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Samples a second, share of the time spent on data, memory in GB (of the GPU, else resident)."""
        seconds = time.perf_counter() - self.begun
        if self.device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self.device)
        else:
            used = psutil.Process().memory_info().rss
        measured = {
            "samples_per_second": self.steps * self.samples / seconds,
            "data_share": self.waited / seconds,
            "memory_gb": used / 1e9,
        }
        self.restart()
        return measured
