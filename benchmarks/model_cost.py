"""Where a frame's arithmetic goes: multiply-adds and parameters of every part of the network.

    python -m benchmarks.model_cost --preset lite
    python -m benchmarks.model_cost --preset lite --config '{"pyramid_width": 32}'

Counts convolutions (torch's flop counter) and the local correlation (window · channels · pixels); a garment
is encoded once and is not part of a frame. The time is eager PyTorch's,
the least of a few runs, garment encoded.
"""

import argparse
import dataclasses
import json
import re
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import line, machine
from rmgn.config import PRESETS, ModelConfig, parse_size
from rmgn.model import RMGN

PARTS = (
    r"warp\.(person_encoder\.stages\.\d|person_pyramid|flow_net\.(match|refine)\.\d)"
    r"|generator\.(blocks\.\d|person_extractor|garment_extractor|head|final|palette|unet)"
)


def costs(config: ModelConfig, height: int, width: int) -> dict[str, float]:
    """Million multiply-adds of one frame by part, the garment's share apart under `garment, once`."""
    model = RMGN(config).eval()
    picture, mask = torch.zeros(1, 3, height, width), torch.ones(1, 1, height, width)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as once:
            pyramid = model.encode_garment(picture, mask)
        with FlopCounterMode(display=False) as counter:
            model(picture, picture, mask, pyramid)
    table: dict[str, float] = {}
    for name, by_operator in counter.get_flop_counts().items():
        part = name.removeprefix("RMGN.")
        if re.fullmatch(PARTS, part):
            table[part] = sum(by_operator.values()) / 2e6
    window = (2 * config.correlation_radius + 1) ** 2
    for level, features in enumerate(pyramid):
        table[f"warp.flow_net.correlation.{level}"] = window * features[0].numel() / 1e6
    table["garment, once"] = once.get_total_flops() / 2e6
    return dict(sorted(table.items()))


def seconds(config: ModelConfig, height: int, width: int, runs: int = 8) -> float:
    """Least time of a frame in eager PyTorch, garment encoded."""
    model = RMGN(config).eval()
    picture, mask = torch.zeros(1, 3, height, width), torch.ones(1, 1, height, width)
    times = []
    with torch.inference_mode():
        pyramid = model.encode_garment(picture, mask)
        for _ in range(runs):
            start = time.perf_counter()
            model(picture, picture, mask, pyramid)
            times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="multiply-adds and parameters by part of the network")
    parser.add_argument("--preset", default="lite", choices=sorted(PRESETS))
    parser.add_argument("--config", type=json.loads, default={}, help="JSON object of settings to change")
    parser.add_argument("--size", type=parse_size, default=(256, 192), metavar="HxW")
    options = parser.parse_args()
    height, width = options.size
    config = ModelConfig.from_json(json.dumps(dataclasses.asdict(PRESETS[options.preset]) | options.config))

    table = costs(config, height, width)
    garment = table.pop("garment, once")
    total = sum(table.values())
    print("| part | million multiply-adds | share |\n|---|---|---|")
    for part, cost in table.items():
        print(f"| {part} | {cost:.1f} | {cost / total:.0%} |")
    parameters = sum(p.numel() for p in RMGN(config).parameters())
    print(f"| **a frame** | **{total:.0f}** | |\n| a garment, once | {garment:.0f} | |")
    print(
        f"\n{parameters / 1e6:.2f} M parameters, {2 * parameters / 1e6:.1f} MB in FP16; "
        f"eager {1000 * seconds(config, height, width):.0f} ms on {torch.get_num_threads()} threads"
    )
    print(line(machine("torch")))


if __name__ == "__main__":
    main()
