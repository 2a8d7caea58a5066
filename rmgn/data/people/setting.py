"""Who stands where in which light: body shape, camera and lights as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from rmgn.data.people.body import BODY_VERTICES
from rmgn.data.people.camera import Camera
from rmgn.data.people.light import Lights, make_lights, read_surroundings, studio
from rmgn.data.people.mesh import Floats


def draw_shape(rng: Generator) -> dict[str, float]:
    """anny's shape parameters: builds, ages from 16 to 80, both sexes, all origins mixed."""
    feminine = rng.random() < 0.65
    origin = rng.dirichlet([0.7, 0.7, 0.7])
    weight = rng.choice(
        [rng.uniform(0.2, 0.45), rng.uniform(0.45, 0.65), rng.uniform(0.65, 0.95)], p=[0.5, 0.3, 0.2]
    )
    age = rng.choice([rng.uniform(0.58, 0.74), rng.uniform(0.74, 0.95)], p=[0.7, 0.3])
    return {
        "gender": 1 - rng.uniform(0, 0.08) if feminine else rng.uniform(0, 0.1),
        "age": float(age),
        "muscle": rng.uniform(0.3, 0.6) if feminine else rng.uniform(0.4, 0.8),
        "weight": float(weight),
        "height": rng.uniform(0.35, 0.85),
        "proportions": rng.uniform(0.6, 1.0),
        "cupsize": rng.uniform(0.25, 0.7),
        "firmness": rng.uniform(0.4, 0.9),
        "african": float(origin[0]),
        "asian": float(origin[1]),
        "caucasian": float(origin[2]),
    }


def draw_camera(rng: Generator, vertices: Floats, size: tuple[int, int]) -> tuple[Camera, dict[str, object]]:
    """From the whole body to head and waist, off the middle, turned up to 40 degrees.

    From afar as in shops, near as a webcam, or a phone held high or low; the frame may cut arms and hair.
    """
    turn = float(np.clip(rng.normal(0, 17), -40, 40))
    kind = str(rng.choice(["shop", "webcam", "phone"], p=[0.55, 0.25, 0.2]))
    near = {"shop": (2.2, 4.0), "webcam": (0.9, 1.8), "phone": (1.2, 2.6)}[kind]
    framing = rng.choice(4, p=[0.14, 0.62, 0.12, 0.12])
    # Metres of height that the picture shows at the person: waist up, thigh up, knee up, whole body.
    extent = rng.uniform(*[(0.62, 0.82), (0.82, 1.2), (1.2, 1.5), (1.85, 2.3)][framing])
    distance = max(float(rng.uniform(*near)), 0.9 * extent if kind == "webcam" else 1.2 * extent)
    skin = vertices[:BODY_VERTICES]
    top = float(skin[:, 2].max())
    above = rng.uniform(-0.06, 0.0) if framing < 2 and rng.random() < 0.12 else rng.uniform(0.015, 0.11)
    middle = top + extent * above - extent / 2
    if framing == 3:
        middle = float(skin[:, 2].min() + top) / 2 + rng.normal(0, 0.02)
    height = middle + {
        "shop": rng.normal(0, 0.12), "webcam": rng.uniform(-0.25, 0.45), "phone": rng.uniform(-0.5, 0.7)
    }[kind]  # fmt: skip
    off = rng.normal(0, 0.03) if rng.random() < 0.6 else rng.uniform(-0.17, 0.17) * extent
    angle = np.deg2rad(turn)
    aside = off * np.array([np.cos(angle), np.sin(angle), 0])
    at = np.array([float(np.median(skin[:, 0])), float(np.median(skin[:, 1])), middle]) + aside
    eye = at + distance * np.array([np.sin(angle), -np.cos(angle), 0])
    eye[2] = height
    roll = float(rng.normal(0, 2.5)) if kind == "phone" else float(rng.normal(0, 0.5))
    camera = Camera.look(eye, at, extent / 2 / distance, size, roll=roll)
    return camera, {
        "kind": kind, "turn": turn, "distance": distance, "extent": extent, "height": float(height - middle),
        "aside": float(off), "roll": roll,
    }  # fmt: skip


def draw_light(rng: Generator, rooms: Sequence[Path], towards_camera: Floats) -> tuple[Lights, str]:
    """A studio, or one of the surroundings turned at random."""
    if rooms and rng.random() < 0.45:
        path = rooms[int(rng.integers(len(rooms)))]
        room = read_surroundings(path)
        room = np.roll(room, int(rng.integers(room.shape[1])), axis=1)
        return make_lights(room, towards_camera, rng), path.stem
    return make_lights(studio(rng, towards_camera), towards_camera, rng), "studio"
