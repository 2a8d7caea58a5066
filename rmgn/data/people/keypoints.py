"""Key points of a posed body, in COCO's order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rmgn.data.people.body import BODY_VERTICES, BodyModel
from rmgn.data.people.camera import Camera
from rmgn.data.people.mesh import Floats
from rmgn.data.people.wear import Wearer


def keypoints(model: BodyModel, person: Wearer, camera: Camera) -> list[list[float]]:
    """COCO's 17 key points in pixels: x, y, and 1 if inside the picture."""
    rest = person.body.vertices
    skin = person.vertices

    def extreme(mask: npt.NDArray[np.bool_], axis: int, sign: int) -> Floats:
        ids = np.flatnonzero(mask)
        return np.asarray(skin[ids[np.argmax(sign * rest[ids, axis])]])

    eyes = [skin[np.unique(model.groups[f"helper-{s}-eye"])].mean(axis=0) for s in "lr"]
    level = rest[np.unique(model.groups["helper-l-eye"]), 2].mean()
    head = np.zeros(len(rest), bool)
    head[:BODY_VERTICES] = np.abs(rest[:BODY_VERTICES, 2] - level) < 0.05
    head &= np.abs(rest[:, 0]) < 0.12
    nose = head & (np.abs(rest[:, 0]) < 0.015)
    points = [extreme(nose, 1, -1), *eyes, extreme(head, 0, 1), extreme(head, 0, -1)]
    for name in ("upperarm01", "lowerarm01", "wrist", "upperleg01", "lowerleg01", "foot"):
        points += [model.joint(f"{name}.{s}", person.body, person.bones) for s in "LR"]
    pixels, _ = camera.project(np.array(points))
    inside = np.asarray(((pixels >= 0) & (pixels < [camera.width, camera.height])).all(axis=1))
    return [
        [round(float(x), 2), round(float(y), 2), float(i)] for (x, y), i in zip(pixels, inside, strict=True)
    ]
