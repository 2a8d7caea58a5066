"""Clips and pictures of a scene known by heart, to be read and recorded."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime import pictures

Pixels = NDArray[np.uint8]
FRAMES = 24


def scene(number: int) -> Pixels:
    """A grey picture with a bar that moves."""
    picture = np.full((180, 320, 3), 120, np.uint8)
    picture[:, 5 * number : 5 * number + 20] = 30
    return picture


def write_clip(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12, (320, 180))
    for number in range(frames):
        writer.write(scene(number))
    writer.release()


def decode(path: Path) -> list[Pixels]:
    capture = cv2.VideoCapture(str(path))
    frames: list[Pixels] = []
    while True:
        got, frame = capture.read()
        if not got:
            return frames
        frames.append(np.asarray(frame, np.uint8))


def write_files(folder: Path) -> None:
    """A clip, two pictures of a person and a garment with its mask."""
    write_clip(folder / "clip.mp4", FRAMES)
    photo = np.full((240, 180, 3), 250, np.uint8)
    photo[60:180, 45:135] = (40, 40, 200)
    pictures.write(folder / "shirt.png", photo)
    pictures.write(folder / "shirt_mask.png", np.where(photo[..., 1] < 100, 255, 0).astype(np.uint8))
    (folder / "people").mkdir()
    for number in range(2):
        pictures.write(folder / "people" / f"person{number}.png", scene(number * 7))


def write_shop(folder: Path, shirt: Path) -> None:
    """The shirt in red and in green, its mask still to be found."""
    photo = pictures.read(shirt)
    for name, colour in (("1red", (40, 40, 200)), ("2green", (40, 200, 40))):
        pictures.write(folder / f"{name}.png", np.where(photo == 250, photo, np.array(colour, np.uint8)))
