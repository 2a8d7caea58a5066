"""Light: surroundings or a drawn studio, reduced to a few directional lights, exposed for the camera."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from engines.picture_files import decoded
from rmgn.data.people.mesh import Floats

LIGHTS = 72


@dataclass(frozen=True)
class Lights:
    """Directions to lights [L, 3] and radiance [L, 3], such that white cloth facing the camera is 1."""

    directions: npt.NDArray[np.float32]
    radiance: npt.NDArray[np.float32]


def read_surroundings(path: Path) -> npt.NDArray[np.float32]:
    """An equirectangular EXR or HDR picture as linear RGB float32 [H, W, 3]; up is the first row."""
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
    picture = decoded(path)
    if picture is None:
        raise ValueError(
            f"cannot read surroundings {path}: expected an OpenEXR or Radiance picture. OpenCV can be built "
            f"without OpenEXR (here {cv2.__version__}): Radiance (.hdr) serves as well"
        )
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    # A sun brighter than half precision holds is infinite there, and would blacken all else.
    brightest = float(np.finfo(np.float16).max)
    rgb = np.nan_to_num(picture[:, :, 2::-1].astype(np.float32), nan=0, posinf=brightest, neginf=0)
    return np.asarray(np.clip(rgb, 0, None))


def _sphere(height: int) -> Floats:
    """Directions of an equirectangular picture's pixels [height, 2 height, 3]."""
    polar = (np.arange(height) + 0.5) / height * np.pi
    around = (np.arange(2 * height) + 0.5) / height * np.pi
    sine, cosine = np.sin(polar)[:, None], np.cos(polar)[:, None]
    return np.stack(
        [sine * np.sin(around), sine * np.cos(around), np.broadcast_to(cosine, (height, 2 * height))], axis=2
    )


def studio(rng: Generator, towards_camera: Floats) -> npt.NDArray[np.float32]:
    """A room of even light with one to three soft lamps on the camera's side."""
    directions = _sphere(64)
    room = np.full(directions.shape, rng.uniform(0.2, 0.7)) * (1 + 0.3 * directions[:, :, 2:])
    for _ in range(rng.integers(1, 4)):
        turn = np.deg2rad(rng.uniform(-80, 80))
        c, s = np.cos(turn), np.sin(turn)
        lamp = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ towards_camera + [0, 0, rng.uniform(0.1, 1.2)]
        lamp /= np.linalg.norm(lamp)
        colour = np.array([1, rng.uniform(0.94, 1), rng.uniform(0.84, 1.06)])
        room += (
            rng.uniform(1.5, 8) * np.exp((directions @ lamp - 1) * rng.uniform(4, 40))[:, :, None] * colour
        )
    return room.astype(np.float32)


def make_lights(surroundings: npt.NDArray[np.float32], towards_camera: Floats, rng: Generator) -> Lights:
    """Draw directional lights by importance, mix their order, set exposure and most of the white balance."""
    small = cv2.resize(surroundings, (128, 64), interpolation=cv2.INTER_AREA)
    directions = _sphere(64)
    area = np.sin((np.arange(64) + 0.5) / 64 * np.pi)[:, None] * (np.pi / 64) ** 2
    power = small.mean(axis=2) * area
    chance = (power + 0.15 * power.mean()).ravel()
    chance /= chance.sum()
    picks = np.searchsorted(np.cumsum(chance), (np.arange(LIGHTS) + rng.uniform(size=LIGHTS)) / LIGHTS)
    picks = np.minimum(picks, chance.size - 1)
    chosen = directions.reshape(-1, 3)[picks] + rng.normal(0, 0.015, (LIGHTS, 3))
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    radiance = (
        small.reshape(-1, 3)[picks]
        * (np.broadcast_to(area, (64, 128)).ravel()[picks] / (LIGHTS * chance[picks]))[:, None]
    )
    order = rng.permutation(LIGHTS)
    chosen, radiance = chosen[order], radiance[order]
    facing = (radiance * np.maximum(0, chosen @ towards_camera)[:, None]).sum(axis=0)
    around = radiance.sum(axis=0) / 4
    level = np.maximum(facing, 0.3 * around)  # backlit people are exposed a little brighter
    balance = (level / level.mean()) ** -0.85
    radiance = radiance * balance * (np.pi / level.mean())
    return Lights(chosen.astype(np.float32), radiance.astype(np.float32))


def shop_lights(rng: Generator) -> Lights:
    """The even light of a shop's photo table, brighter from above and one side."""
    chosen = rng.normal(size=(LIGHTS, 3))
    chosen[:, 1] = -np.abs(chosen[:, 1])
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    key = np.array([rng.choice([-1, 1]) * rng.uniform(0.3, 0.7), -0.3, 0.8])
    weight = 0.5 + rng.uniform(0.8, 2.0) * np.clip(chosen @ (key / np.linalg.norm(key)), 0, 1)
    weight *= np.pi / (weight * -chosen[:, 1]).sum()
    return Lights(chosen.astype(np.float32), np.repeat(weight[:, None], 3, axis=1).astype(np.float32))
