"""Faces: features that differ from person to person, expressions, eyes, teeth, beards and shaved scalps."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from rmgn.data.people.assets import F32
from rmgn.data.people.body import BODY_VERTICES, HEAD_KEYS, BodyModel, body_model
from rmgn.data.people.layers import LABELS
from rmgn.data.people.mesh import Floats, triangles, used, vertex_normals
from rmgn.data.people.raytrace import HAIR, OTHER, Surface
from rmgn.data.people.wear import Wearer

IRIS = [
    (0.05, 0.025, 0.012),
    (0.03, 0.016, 0.01),
    (0.07, 0.04, 0.02),
    (0.06, 0.09, 0.12),
    (0.06, 0.075, 0.04),
]


@dataclass(frozen=True)
class Expression:
    """What a face does: facial actions in [0, 1], and where the eyes look in the head, degrees."""

    name: str = "calm"
    actions: dict[str, float] = field(default_factory=dict)
    gaze: tuple[float, float] = (0.0, 0.0)  # to the body's left, up; beyond the camera
    at_camera: bool = True  # gaze counts from the direction to the camera, else from straight ahead


def draw_features(rng: Generator) -> dict[str, float]:
    """Shape keys in [-1, 1] that make a head its own; a little different left and right."""
    features: dict[str, float] = {}
    for key, spread in HEAD_KEYS.items():
        value = float(np.clip(rng.normal(0, 0.75 * spread), -0.7, 0.7))
        features[key] = value
        if key.startswith("l-"):
            features["r" + key[1:]] = float(np.clip(value + rng.normal(0, 0.06), -1, 1))
    return features


def draw_expression(rng: Generator) -> Expression:
    """Draw what people do before a mirror or a camera: mostly smiles and calm looks; some talk or blink."""
    names = ["calm", "smile", "laugh", "talk", "pout", "surprise", "frown"]
    name = str(rng.choice(names, p=[0.3, 0.32, 0.16, 0.08, 0.05, 0.04, 0.05]))
    actions: dict[str, float] = {}

    def both(key: str, low: float, high: float, uneven: float = 0.08) -> None:
        value = rng.uniform(low, high)
        for side in ("Left", "Right"):
            actions[key + side] = float(np.clip(value + rng.normal(0, uneven), 0, 1))

    if name in ("smile", "laugh"):
        full = name == "laugh"
        both("mouthSmile", 0.45 if full else 0.2, 0.95 if full else 0.75)
        both("cheekSquint", 0.2, 0.8)
        both("eyeSquint", 0.1, 0.6)
        both("mouthDimple", 0.0, 0.4)
        if full:
            both("mouthUpperUp", 0.15, 0.5)
            both("mouthLowerDown", 0.1, 0.4)
            actions["jawOpen"] = float(rng.uniform(0.0, 0.22))
    elif name == "talk":
        actions["jawOpen"] = float(rng.uniform(0.05, 0.35))
        actions[str(rng.choice(["mouthFunnel", "mouthPucker", "mouthShrugUpper"]))] = float(
            rng.uniform(0, 0.5)
        )
        both("mouthLowerDown", 0.0, 0.4)
    elif name == "pout":
        actions["mouthPucker"] = float(rng.uniform(0.2, 0.7))
    elif name == "surprise":
        actions["jawOpen"] = float(rng.uniform(0.05, 0.3))
        both("browOuterUp", 0.3, 0.9)
        both("eyeWide", 0.2, 0.7)
        actions["browInnerUp"] = float(rng.uniform(0.3, 0.9))
    elif name == "frown":
        both("mouthFrown", 0.1, 0.5)
        both("browDown", 0.2, 0.7)
        both("mouthPress", 0.0, 0.5)
    if name in ("calm", "smile", "talk"):
        both("browOuterUp", 0.0, 0.35)
        actions["browInnerUp"] = float(rng.uniform(0, 0.4))
        both("mouthPress", 0.0, 0.25)
    if rng.random() < 0.05:
        both("eyeBlink", 0.6, 1.0, 0.03)
    elif name not in ("surprise",):  # lids hang a little: wide open eyes stare
        both("eyeBlink", 0.0, 0.3, 0.03)
    gaze = (float(rng.normal(0, 4)), float(rng.normal(-1, 3)))
    return Expression(name, actions, gaze, bool(rng.random() < 0.75))


def gaze_angles(model: BodyModel, person: Wearer, expression: Expression, eye: Floats) -> tuple[float, float]:
    """Where the eyes turn in the head, degrees to the body's left and up, for a camera at `eye`."""
    across, up = expression.gaze
    if expression.at_camera:
        turn = person.bones[model.index["head"], :, :3]
        toward = turn.T @ (eye - model.joint("head", person.body, person.bones)) - [0, 0, 0.07]
        across += float(np.degrees(np.arctan2(toward[0], -toward[1])))
        up += float(np.degrees(np.arctan2(toward[2], np.hypot(toward[0], toward[1]))))
    return float(np.clip(across, -24, 24)), float(np.clip(up, -14, 14))


def eye_surface(model: BodyModel, person: Wearer, iris: int, gaze: tuple[float, float]) -> Surface:
    """Eyeballs with a drawn iris that looks along `gaze`; the albedo is absolute."""
    tris = triangles(np.concatenate([model.groups[f"helper-{side}-eye"] for side in "lr"]))
    rest = person.body.vertices
    flat = np.zeros((len(rest), 2))
    for side in "lr":
        ids = np.unique(model.groups[f"helper-{side}-eye"])
        low, high = rest[ids].min(axis=0), rest[ids].max(axis=0)
        shift = np.sin(np.deg2rad(gaze))
        ball = (rest[ids][:, [0, 2]] - (low + high)[[0, 2]] / 2) / ((high - low)[2] / 2)
        flat[ids] = 0.5 + 0.245 * (ball - shift)
    return Surface(person.vertices, tris, OTHER, uv=flat[tris], texture=_eye_texture(iris))


@functools.lru_cache(maxsize=8)
def _eye_texture(iris: int) -> F32:
    """The eye as seen from the front, twice as wide as the ball."""
    y, x = np.mgrid[:128, :128]
    radius = np.hypot(x - 63.5, y - 63.5) / 32
    eye = np.ones((128, 128, 4), np.float32)
    eye[:, :, :3] = (0.27, 0.235, 0.225)
    eye[radius < 0.5, :3] = IRIS[iris]
    eye[(radius > 0.42) & (radius < 0.54), :3] *= 0.45
    eye[radius < 0.21, :3] = 0.008
    # The lids shade the ball's upper part; its corners are redder.
    eye[:, :, :3] *= (1 - 0.45 * np.clip((58 - y) / 14, 0, 1))[:, :, None]
    eye[:, :, 1:3] *= (1 - 0.25 * np.clip(np.abs(x - 63.5) / 32 - 0.5, 0, 1))[:, :, None]
    return np.asarray(cv2.GaussianBlur(eye, (0, 0), 1.2), np.float32)


def mouth_surfaces(model: BodyModel, person: Wearer) -> list[Surface]:
    """Teeth and tongue, seen when the lips part."""
    result = []
    for groups, colour in (
        (("upper-teeth", "lower-teeth"), (0.5, 0.46, 0.40)),
        (("tongue",), (0.25, 0.07, 0.07)),
    ):
        tris = triangles(np.concatenate([model.groups[f"helper-{g}"] for g in groups]))
        result.append(Surface.plain(person.vertices, tris, colour, casts=False))
    return result


def paint_skin(values: Floats, size: int) -> F32:
    """Values of the skin's vertices [13380] as a picture in its texture plane, float32 [size, size]."""
    model = body_model()
    canvas = np.zeros((size, size), np.float32)
    points = model.uv[model.uv_triangles] * [size, -size] + [0, size]
    level = values[model.triangles].mean(axis=1)
    for k in np.flatnonzero(level > 0.004):
        corners = np.round(points[k] * 16).astype(np.int32)
        cv2.fillConvexPoly(canvas, corners, float(level[k]), cv2.LINE_8, 4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), size / 340), np.float32)


BEARDS = ("stubble", "full", "goatee", "moustache", "chinstrap")


@functools.lru_cache(maxsize=1)
def hairy() -> dict[str, Floats]:
    """For each beard, and for the scalp, how much hair grows at each vertex of the skin, 0 to 1."""
    model = body_model()
    rest = model.rest({})
    skin = rest.vertices[:BODY_VERTICES]
    lips = np.concatenate([rest.heads[[i for i, b in enumerate(model.bones) if b.startswith("oris")]]])
    eyes = np.concatenate([rest.vertices[np.unique(model.groups[f"helper-{s}-eye"])] for s in "lr"])
    mouth_z = float(lips[:, 2].mean())
    mouth_y = float(skin[np.abs(skin[:, 2] - mouth_z) < 0.02][:, 1].min())
    eye_z = float(eyes[:, 2].mean())
    x, y, z = np.abs(skin[:, 0]), skin[:, 1] - mouth_y, skin[:, 2] - mouth_z
    words = ("head", "jaw", "neck03", "oris", "risor", "levat", "special", "tempor", "ocul", "orbic")
    head = model.bone_weight(*words)[:BODY_VERTICES] > 0.5

    def soft(value: Floats, width: float) -> Floats:
        return np.asarray(np.clip(value / width + 0.5, 0, 1))

    ear = soft(0.105 - y, 0.012)
    lip = soft(np.hypot(x / 0.027, z / 0.0105) - 1.15, 0.35)
    lip = np.where(y < 0.04, lip, 1.0)
    # The beard's line runs from the corner of the nose to the ear, and from the chin to under the jaw.
    upper = soft(0.016 + 0.38 * np.clip(y - 0.035, 0, None) - z, 0.012) * soft(z + 0.085, 0.02)
    side = upper * ear * lip * head
    lower_lip = soft(np.hypot(x / 0.012, (z + 0.017) / 0.006) - 1, 0.4)
    near = soft(0.034 - x, 0.01) * (y < 0.06)
    above = soft(z - 0.004, 0.004) * soft(0.021 - z, 0.004) * soft(0.032 - x, 0.008) * (y < 0.03)
    jaw = soft(-0.012 - z + 0.3 * np.clip(y - 0.03, 0, None), 0.01) * soft(x - 0.005, 0.01)
    # From the forehead down before the ear, over it, and down to the nape.
    line = np.interp(
        y,
        [0.0, 0.03, 0.055, 0.072, 0.085, 0.1, 0.12, 0.135, 0.15],
        [0.066, 0.064, 0.045, -0.012, -0.008, 0.015, 0.02, -0.03, -0.085],
    )
    top = skin[:, 2] - eye_z - line
    level = skin[:, 2] - eye_z
    ears = (level > -0.05) & (level < 0.032) & (y > 0.085) & (y < 0.15) & (x > 0.075)
    scalp = soft(top, 0.014) * head * ~ears
    return {
        "stubble": side * lower_lip, "full": side * lower_lip, "goatee": side * near * lower_lip,
        "moustache": side * above, "chinstrap": side * jaw, "scalp": scalp,
    }  # fmt: skip


@functools.lru_cache(maxsize=8)
def _short_hair(name: str) -> tuple[F32, npt.NDArray[np.int64]]:
    """A texture of short hair, opacity where it grows, and the faces of the skin that have any."""
    values = hairy()[name]
    size = 1024
    opacity = paint_skin(values, size)
    rng = np.random.default_rng(5)
    noise = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 0.7)
    noise = noise / noise.std()
    coarse = cv2.GaussianBlur(rng.normal(size=(size, size)).astype(np.float32), (0, 0), 5)
    texture = np.ones((size, size, 4), np.float32)
    texture[:, :, :3] = np.clip(1 + 0.3 * noise + 0.25 * coarse / coarse.std(), 0.2, 2)[:, :, None]
    texture[:, :, 3] = np.clip(opacity * (1.8 + 0.35 * noise), 0, 1)
    faces = np.flatnonzero((values[body_model().triangles] > 0.02).any(axis=1))
    return texture, faces


def short_hair_surface(model: BodyModel, person: Wearer, name: str, length: float, opacity: float) -> Surface:
    """A beard or a cropped scalp: the skin pushed out by `length` metres where hair grows."""
    texture, faces = _short_hair(name)
    if opacity < 1:
        texture = texture.copy()
        texture[:, :, 3] *= opacity
    tris, source = used(model.triangles[faces], BODY_VERTICES)
    grown = hairy()[name][source]
    v = person.vertices[source]
    v = v + (0.0008 + length * grown)[:, None] * person.normals[source]
    label = LABELS["hair" if name == "scalp" else "face"]  # parsers count beards as face
    return Surface(
        v, tris, HAIR, uv=model.uv[model.uv_triangles[faces]], texture=texture, casts=False, label=label,
        normals=vertex_normals(v, tris),
    )  # fmt: skip
