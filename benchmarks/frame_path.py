"""The native frame path against NumPy and OpenCV, in one run on one machine.

    python -m benchmarks.frame_path --out out/frame_path

Writes frame_path.json and frame_path.md. `numpy` is the specification, runtime/reference.py; `opencv` is what
cv2 alone gives a careful programmer: resize with INTER_AREA and blobFromImage, resize and remap in float32.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import in_turns, line, machine
from runtime import _native, reference

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]
Crop = tuple[float, float, float, float]

SIZES = ((1280, 720), (1920, 1080))
NETWORK = (256, 192)
GARMENT = (1024, 768)


def opencv_preprocess(frame: Pixels, crop: Crop, out: Planes) -> None:
    """As `_native.preprocess`, for whole-numbered crops inside the frame; box instead of triangle filter."""
    x, y, width, height = (round(value) for value in crop)
    size = (out.shape[3], out.shape[2])
    small = cv2.resize(frame[y : y + height, x : x + width], size, interpolation=cv2.INTER_AREA)
    out[:] = cv2.dnn.blobFromImage(small, 1 / 127.5, size, (127.5, 127.5, 127.5), swapRB=True)


def opencv_composite(
    frame: Pixels,
    crop: Crop,
    garment: Pixels,
    flow: Planes,
    rendered: Planes,
    person: Planes,
    share: Planes,
    mask: Planes,
    matte: Planes,
) -> None:
    """As `_native.composite`, for whole-numbered crops inside the frame."""
    x, y, width, height = (round(value) for value in crop)

    def up(planes: Planes) -> Planes:
        interleaved = np.ascontiguousarray(planes[0].transpose(1, 2, 0))
        return np.asarray(cv2.resize(interleaved, (width, height)), np.float32).reshape(height, width, -1)

    grid = up(flow)
    x_at, y_at = ((grid[..., axis] + 1) * np.float32(garment.shape[1 - axis] / 2) - 0.5 for axis in (0, 1))
    sampled = cv2.remap(garment, x_at, y_at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cloth = sampled.astype(np.float32)
    worn = up(mask)
    rest = 1 - worn
    on, off = worn * worn * worn, rest * rest * rest
    weight = on / (on + off) * cloth[..., 3:] / 255
    camera = frame[y : y + height, x : x + width]
    shown = up(share)
    drawn, reduced = ((up(planes)[..., ::-1] + 1) * 127.5 for planes in (rendered, person))
    painted = drawn + shown * (camera - reduced)
    painted = np.clip(painted, np.minimum(drawn, camera), np.maximum(drawn, camera))
    dressed = painted + weight * (cloth[..., :3] - painted)
    mixed = camera + up(matte) * (dressed - camera)
    camera[:] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def inputs(width: int, height: int) -> tuple[Pixels, Crop, Planes, tuple[Any, ...]]:
    """A frame, the largest crop in its middle, the network's input, and composite's other arguments.

    The garment covers a third of the crop and the matte half of it, as on a person who fills the crop.
    """
    rng = np.random.default_rng(0)
    rows, columns = NETWORK
    frame = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (5, 5), 0)
    garment = cv2.GaussianBlur(rng.integers(0, 256, (*GARMENT, 4), dtype=np.uint8), (5, 5), 0)
    wide = height * 3 // 4
    crop = (float((width - wide) // 2), 0.0, float(wide), float(height))
    x, y = np.meshgrid((2 * np.arange(columns) + 1) / columns - 1, (2 * np.arange(rows) + 1) / rows - 1)
    bend = 0.05 * np.sin(4 * y)
    flow = np.stack([x + bend, 0.9 * y])[None].astype(np.float32)
    rendered, person = (rng.uniform(-1, 1, (1, 3, rows, columns)).astype(np.float32) for _ in range(2))
    share = rng.uniform(0, 1, (1, 1, rows, columns)).astype(np.float32)
    mask, matte = np.zeros((1, 1, rows, columns), np.float32), np.zeros((1, 1, rows, columns), np.float32)
    mask[..., 60:190, 32:160] = 1
    matte[..., 40:210, 22:170] = 1
    out = np.empty((1, 3, rows, columns), np.float32)
    return np.asarray(frame, np.uint8), crop, out, (garment, flow, rendered, person, share, mask, matte)


WAYS = {
    "native": (_native.preprocess, _native.composite),
    "opencv": (opencv_preprocess, opencv_composite),
    "numpy": (reference.preprocess, reference.composite),
}


def _each(step: Callable[..., None], *arguments: Any) -> Callable[[int], None]:
    """The same work in every round."""
    return lambda _: step(*arguments)


def measure(repeats: int) -> list[dict[str, Any]]:
    """One row per size, step and implementation, each with its largest difference from the specification."""
    rows = []
    for width, height in SIZES:
        frame, crop, out, arguments = inputs(width, height)
        expected_out, expected = out.copy(), frame.copy()
        reference.preprocess(frame, crop, expected_out)
        reference.composite(expected, crop, *arguments)
        work: dict[str, dict[str, Callable[[int], None]]] = {"preprocess": {}, "composite": {}}
        errors = {}
        for name, (preprocess, composite) in WAYS.items():
            dressed = frame.copy()
            preprocess(frame, crop, out)
            composite(dressed, crop, *arguments)
            errors["preprocess", name] = 127.5 * float(np.abs(out - expected_out).max())
            errors["composite", name] = float(np.abs(dressed.astype(int) - expected).max())
            work["preprocess"][name] = _each(preprocess, frame, crop, out)
            work["composite"][name] = _each(composite, dressed, crop, *arguments)
        for step, ways in work.items():
            slow = {"numpy": ways.pop("numpy")}
            times = in_turns(ways, repeats, warm_up=2) | in_turns(slow, max(3, repeats // 20))
            rows += [
                {
                    "frame": f"{width}x{height}",
                    "step": step,
                    "implementation": name,
                    "median_ms": round(1e3 * float(np.median(seconds)), 3),
                    "p90_ms": round(1e3 * float(np.percentile(seconds, 90)), 3),
                    "largest_difference": round(errors[step, name], 3),
                }
                for name, seconds in times.items()
            ]
    return rows


def markdown(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """A table with the ratio of each implementation to the native one."""
    lines = [
        "| frame | step | implementation | median ms | p90 ms | times native | largest difference of 255 |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    native = {
        (row["frame"], row["step"]): row["median_ms"] for row in rows if row["implementation"] == "native"
    }
    for row in rows:
        ratio = row["median_ms"] / native[row["frame"], row["step"]]
        cells = [row[key] for key in ("frame", "step", "implementation", "median_ms", "p90_ms")]
        lines.append("| " + " | ".join(map(str, [*cells, f"{ratio:.1f}", row["largest_difference"]])) + " |")
    return "\n".join([*lines, "", line(about), ""])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/frame_path"), help="folder for the results")
    parser.add_argument("--repeats", type=int, default=100)
    args = parser.parse_args()
    about = {**machine("numpy", "cv2"), "threads of OpenCV": cv2.getNumThreads()}
    rows = measure(args.repeats)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "frame_path.json").write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    table = markdown(rows, about)
    (args.out / "frame_path.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
