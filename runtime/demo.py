"""Draw a clip and a shop photo to try the mirror with, where there is neither camera nor garment.

python -m runtime.demo --out demo      # demo/clip.mp4, demo/garment.png
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runtime import pictures
from runtime.failure import InputError, Parser, run
from runtime.pictures import Pixels
from runtime.recording import Recorder

HEIGHT, WIDTH, FPS, SECONDS = 720, 960, 25, 4


def draw_person(phase: float) -> Pixels:
    """A drawn figure before a wall, swaying; phase in [0, 1). Returns uint8 BGR [HEIGHT, WIDTH, 3]."""
    ramp = np.linspace(235, 170, HEIGHT, dtype=np.float32)[:, None, None]
    wall = np.broadcast_to(ramp * np.array([0.92, 0.96, 1.0]), (HEIGHT, WIDTH, 3))
    frame = np.ascontiguousarray(wall, np.uint8)
    sway = np.sin(2 * np.pi * phase)
    hip, neck = np.array([WIDTH / 2, 640.0]), np.array([WIDTH / 2 + 30 * sway, 250.0])
    skin, shirt, trousers, hair = (150, 180, 225), (120, 80, 50), (60, 50, 45), (35, 40, 60)

    def limb(points: list[np.ndarray], color: tuple[int, int, int], thickness: int) -> None:
        path = np.array(points, np.int32)
        cv2.polylines(frame, [path], False, color, thickness, cv2.LINE_AA)

    for side in (-1, 1):
        limb([hip + [side * 45, 0], hip + [side * 55, 200]], trousers, 105)
        shoulder = neck + [side * 85, 45]
        elbow = shoulder + [side * (45 + 15 * sway * side), 140]
        limb([shoulder, elbow], shirt, 62)
        limb([elbow, elbow + [side * 5, 130 - 40 * sway * side]], skin, 44)
    torso = [neck + [-95, 30], neck + [95, 30], hip + [85, 40], hip + [-85, 40]]
    cv2.fillPoly(frame, [np.array(torso, np.int32)], shirt, cv2.LINE_AA)
    limb([neck + [0, -60], neck + [0, 25]], skin, 60)
    head = (int(neck[0] + 8 * sway), int(neck[1] - 110))
    cv2.ellipse(frame, (head[0], head[1] - 18), (72, 88), 0, 0, 360, hair, -1, cv2.LINE_AA)
    cv2.ellipse(frame, head, (60, 80), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(frame, (head[0] + side * 24, head[1] - 10), 6, (40, 40, 40), -1, cv2.LINE_AA)
    cv2.ellipse(frame, (head[0], head[1] + 34), (20, 8), 0, 10, 170, (90, 90, 170), 4, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(frame, (3, 3), 0), np.uint8)


def draw_garment() -> Pixels:
    """A striped T-shirt with a word on it, on white. Returns uint8 BGR [1024, 768, 3]."""
    half = [
        (0, 230),
        (60, 200),
        (120, 190),
        (240, 270),
        (330, 480),
        (230, 530),
        (185, 440),
        (195, 860),
        (0, 870),
    ]
    outline = [(384 + x, y) for x, y in half] + [(384 - x, y) for x, y in reversed(half)]
    mask = np.zeros((1024, 768), np.uint8)
    cv2.fillPoly(mask, [np.array(outline, np.int32)], 255, cv2.LINE_AA)
    cv2.ellipse(mask, (384, 195), (85, 60), 0, 0, 360, 0, -1, cv2.LINE_AA)
    stripes = (np.arange(1024) // 40 % 2)[:, None, None]
    cloth = np.where(stripes, np.array([70, 60, 190]), np.array([230, 225, 240])) * np.ones((1, 768, 1))
    cv2.putText(cloth, "RMGN", (245, 560), cv2.FONT_HERSHEY_DUPLEX, 3.2, (40, 40, 40), 12, cv2.LINE_AA)
    alpha = mask[:, :, None].astype(np.float32) / 255
    return (alpha * cloth + (1 - alpha) * 250).round().astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Raises InputError where the folder cannot be written."""
    parser = Parser(prog="python -m runtime.demo", description="Draw a clip and a shop photo.")
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder to write (demo)"
    )
    args = parser.parse_args(argv)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {args.out}: {error.strerror}") from error
    pictures.write(args.out / "garment.png", draw_garment())
    recorder = Recorder(args.out / "clip.mp4", FPS, live=False)
    for index in range(FPS * SECONDS):
        recorder.add(draw_person(index / (FPS * SECONDS)))
    recorder.finish()
    print(f"{args.out / 'clip.mp4'}, {args.out / 'garment.png'}")


if __name__ == "__main__":
    sys.exit(run(main))
