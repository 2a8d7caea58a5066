"""Skin, eyes, brows, lashes and hair as surfaces on a posed body."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from numpy.random import Generator

from rmgn.data.people.assets import F32, Assets, Proxy
from rmgn.data.people.body import BODY_VERTICES, BodyModel, body_model, skin
from rmgn.data.people.face import (
    BEARDS,
    IRIS,
    Expression,
    draw_expression,
    draw_features,
    short_hair_surface,
)
from rmgn.data.people.hair import bun, curls, fringe
from rmgn.data.people.layers import LABELS
from rmgn.data.people.mesh import Floats, averaging, edges, triangles, used, vertex_normals
from rmgn.data.people.raytrace import HAIR, SKIN, Surface
from rmgn.data.people.wear import Wearer

LONG = ("long", "long01", "bob01", "bob02", "braid01", "ponytail01")


@dataclass(frozen=True)
class HeadStyle:
    """Names of assets where there are any, and how the hair differs from them; metres."""

    skin: str = ""
    hair: str = ""
    brow: int = 0
    lash: int = 0
    iris: int = 0
    flip: bool = False
    length: float = 1.0  # factor below the chin
    volume: float = 0.0  # outward
    wave: float = 0.0  # amplitude of waves
    wave_length: float = 0.06
    seed: int = 0
    locks: str = ""  # shoulders over which hair falls to the front: L, R, LR
    lock_length: float = 0.2
    fringe: float = 0.0  # length over the forehead, 0 for none
    part: float = 0.0
    bun: float = 0.0  # radius, 0 for none
    bun_high: float = 0.5
    beard: str = ""
    beard_length: float = 0.0
    density: float = 1.0  # of beard and cropped hair
    features: dict[str, float] = field(default_factory=dict)
    expression: Expression = field(default_factory=Expression)


def draw_head(rng: Generator, assets: Assets, feminine: bool, age: float) -> HeadStyle:
    """Draw skin by sex and age, features, an expression, and hair: long mostly for women, short for both."""
    sex = "female" if feminine else "male"
    skins = [p.name for p in assets.skins if f"_{sex}_" in p.name]
    fitting = [
        n for n in skins if n.startswith("old" if age > 0.9 else "middleage" if age > 0.78 else "young")
    ]
    # Cards without their own picture of strands look broken with another's.
    names = [n for n, path in assets.hair.items() if assets.proxy_texture(path) is not None] or [
        "short",
        "long",
    ]
    long = [n for n in names if n in LONG]
    short = [n for n in names if n not in long]
    group = rng.choice(5, p=[0.46, 0.16, 0.18, 0.03, 0.17] if feminine else [0.05, 0.55, 0.02, 0.26, 0.12])
    if group < 2 and (long, short)[group]:
        hair = str(rng.choice((long, short)[group]))
    else:
        hair = {2: "sleek", 3: "cropped", 4: "curls"}.get(int(group), "cropped")
    if not feminine and rng.random() < (0.06 if age < 0.78 else 0.25):
        hair = "bald"
    locks, bun = "", 0.0
    if hair == "sleek":
        tail = rng.random() < 0.45
        bun = 0.0 if tail else float(rng.uniform(0.028, 0.05))
        locks = str(rng.choice(["L", "R", "LR"], p=[0.4, 0.4, 0.2])) if tail else ""
    elif hair in ("long", "long01") and rng.random() < 0.75:
        locks = str(rng.choice(["LR", "L", "R"], p=[0.6, 0.2, 0.2]))
    beard = ""
    if not feminine and rng.random() < 0.55:
        beard = str(rng.choice(BEARDS, p=[0.4, 0.3, 0.13, 0.09, 0.08]))
    fringed = feminine and hair not in ("bald", "curls") and rng.random() < 0.25
    chosen = fitting or skins or [p.name for p in assets.skins]
    return HeadStyle(
        skin=str(rng.choice(chosen)) if chosen else "",
        hair=hair,
        brow=int(rng.integers(64)),
        lash=int(rng.integers(64)),
        iris=int(rng.choice(len(IRIS), p=[0.4, 0.4, 0.12, 0.04, 0.04])),
        flip=bool(rng.random() < 0.5),
        length=float(rng.uniform(0.6, 1.35)),
        volume=float(rng.choice([rng.uniform(0.001, 0.005), rng.uniform(0.005, 0.018)], p=[0.6, 0.4])),
        wave=float(rng.choice([0.0, rng.uniform(0.002, 0.01)], p=[0.5, 0.5])),
        wave_length=float(rng.uniform(0.03, 0.09)),
        seed=int(rng.integers(1 << 30)),
        locks=locks,
        lock_length=float(rng.uniform(0.08, 0.34)),
        fringe=float(rng.uniform(0.045, 0.075)) if fringed else 0.0,
        part=float(rng.uniform(-1, 1)),
        bun=bun,
        bun_high=float(rng.uniform(0, 1)),
        beard=beard,
        beard_length=0.0 if beard == "stubble" else float(rng.choice([0.002, 0.005, 0.009])),
        density=float(rng.uniform(0.12, 0.4)) if beard == "stubble" else float(rng.uniform(0.7, 1.0)),
        features=draw_features(rng),
        expression=draw_expression(rng),
    )


def relative(texture: F32) -> F32:
    """Colours divided by their mean over the opaque part: 1 is the material's own tone."""
    opaque = texture[:, :, 3:] > 0.3
    mean = (texture[:, :, :3] * opaque).sum(axis=(0, 1)) / max(1, int(opaque.sum()))
    result = texture.copy()
    result[:, :, :3] = np.clip(texture[:, :, :3] / np.maximum(mean, 1e-4), 0.0, 3.9)
    return result


@functools.lru_cache(maxsize=16)
def _skin_texture(assets: Assets, name: str) -> F32:
    """A skin relative to its own tone; the tone of the face, since that is what one looks at."""
    path = next(p for p in assets.skins if p.name == name)
    texture = assets.texture(path).copy()
    h, w = texture.shape[:2]
    face = texture[int(h * 0.05) : int(h * 0.45), int(w * 0.3) : int(w * 0.7), :3].reshape(-1, 3)
    tone = np.median(face, axis=0)
    detail = np.clip(texture[:, :, :3] / np.maximum(tone, 1e-3), 0.05, 3.0)
    # A dark skin made light, or the other way round, keeps its features but fewer hues.
    level = detail.mean(axis=2, keepdims=True)
    texture[:, :, :3] = level**0.9 * (detail / level) ** 0.6
    return texture


@functools.lru_cache(maxsize=1)
def _drawn_skin() -> F32:
    """Skin without assets: even, with redder lips, cheeks and knuckles, painted into the texture plane."""
    model = body_model()
    rest = model.rest({})
    colour = np.ones((BODY_VERTICES, 3))
    for words, spread, tint in (
        (("oris",), 0.007, (0.80, 0.50, 0.50)),
        (("finger", "toe"), 0.01, (0.98, 0.90, 0.90)),
        (("risorius", "levator"), 0.012, (1.0, 0.90, 0.90)),
    ):
        spots = rest.heads[[i for i, b in enumerate(model.bones) if any(w in b for w in words)]]
        gap = np.linalg.norm(rest.vertices[:BODY_VERTICES, None] - spots[None], axis=2).min(axis=1)
        colour *= 1 + np.exp(-((gap / spread) ** 2))[:, None] * (np.array(tint) - 1)
    size = 512
    canvas = np.ones((size, size, 3), np.float32)
    points = model.uv[model.uv_triangles] * [size, -size] + [0, size]
    for tri, corners in zip(points, colour[model.triangles].mean(axis=1), strict=True):
        if np.abs(corners - 1).max() > 0.01:
            cv2.fillConvexPoly(canvas, np.round(tri * 16).astype(np.int32), corners.tolist(), cv2.LINE_8, 4)
    painted = np.asarray(cv2.GaussianBlur(canvas, (0, 0), 1.5), np.float32)
    noise = np.random.default_rng(0).normal(size=(size, size, 1)).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 6)[:, :, None] * 0.25 + noise * 0.02
    return np.dstack([painted * (1 + grain), np.ones((size, size, 1), np.float32)]).astype(np.float32)


def skin_surface(
    model: BodyModel, person: Wearer, style: HeadStyle, assets: Assets, hidden: npt.NDArray[np.bool_]
) -> Surface:
    """The body without faces whose vertices are all `hidden` [13380] under clothes."""
    shown = ~hidden[model.triangles].all(axis=1)
    return Surface(
        person.vertices[:BODY_VERTICES],
        model.triangles[shown],
        SKIN,
        uv=model.uv[model.uv_triangles[shown]],
        texture=_skin_texture(assets, style.skin) if style.skin else _drawn_skin(),
        normals=person.normals,
    )


def strand_surfaces(model: BodyModel, person: Wearer, style: HeadStyle, assets: Assets) -> list[Surface]:
    """Hair, brows and lashes, as cards from assets or as drawn shells."""
    surfaces: list[Surface] = []
    if style.hair in assets.hair:  # where a head is larger than the cards, hair shows below them, not skin
        surfaces.append(short_hair_surface(model, person, "scalp", 0.001, 1.0))
        surfaces.append(_asset_hair(model, person, style, assets))
    elif style.hair in ("short", "long"):
        surfaces.append(_drawn_hair(model, person, style))
    elif style.hair == "curls":
        surfaces += curls(model, person, 0.012 + 4 * style.volume, 0.3 + 0.6 * abs(style.part), style.seed)
    else:
        length = {"sleek": 0.007, "cropped": 0.002 + 0.3 * style.volume}.get(style.hair, 0.0)
        dense = 0.3 * style.density if style.hair == "bald" else 1.0
        surfaces.append(short_hair_surface(model, person, "scalp", length, dense))
    if style.bun:
        surfaces.append(bun(model, person, style.bun, style.bun_high))
    if style.fringe:
        surfaces.append(fringe(model, person, style.fringe, style.part, style.seed))
    if style.beard:
        surfaces.append(short_hair_surface(model, person, style.beard, style.beard_length, style.density))
    for files, number, out in ((assets.brows, style.brow, 0.001), (assets.lashes, style.lash, 0.0005)):
        if not files:
            continue
        path = files[number % len(files)]
        picture = assets.proxy_texture(path)
        if picture is None:
            continue
        texture = assets.texture(picture).copy()
        texture[:, :, :3] = 0.8
        proxy = assets.proxy(path)
        v, w = proxy.fit(person.body.vertices, model.weights)
        v = skin(v, w, person.bones)
        v = v + out * vertex_normals(v, proxy.triangles)
        surfaces.append(
            Surface(v, proxy.triangles, HAIR, uv=proxy.uv, texture=texture, casts=False, label=LABELS["face"])
        )
    return surfaces


def _asset_hair(model: BodyModel, person: Wearer, style: HeadStyle, assets: Assets) -> Surface:
    path = assets.hair[style.hair]
    proxy: Proxy = assets.proxy(path)
    v, w = proxy.fit(person.body.vertices, model.weights)
    v = _restyle(v, style, person.body.heads[model.index["head"]])
    cards, uv = proxy.triangles, proxy.uv
    if style.flip:  # a mirror image is inside out, and hangs on the other side's bones
        cards, uv, w = cards[:, ::-1], uv[:, ::-1], w[:, model.opposite]
    v = skin(v, w, person.bones)
    v = v + 0.003 * vertex_normals(v, cards)
    texture = _strand_texture(assets, style.hair)
    return Surface(v, cards, HAIR, uv=uv, texture=texture)


@functools.lru_cache(maxsize=16)
def _strand_texture(assets: Assets, hair: str) -> F32:
    picture = assets.proxy_texture(assets.hair[hair])
    if picture is None:
        return _drawn_strands()
    texture = assets.texture(picture).copy()
    texture[:, :, :3] = texture[:, :, :3].mean(axis=2, keepdims=True)
    texture = relative(texture)
    texture[:, :, :3] = np.maximum(texture[:, :, :3], 0.2)
    return texture


def _restyle(v: Floats, style: HeadStyle, head: Floats) -> Floats:
    """Longer or shorter, fuller, wavy, parted on the other side."""
    v = v.copy()
    if style.flip:
        v[:, 0] *= -1
    centre = head + np.array([0, 0, 0.09])
    chin = head[2] - 0.02
    below = np.clip(chin - v[:, 2], 0, None)
    v[:, 2] += below * (1 - style.length) if style.length < 1 else -below * (style.length - 1)
    out = v - centre
    out[:, 2] *= 0.3
    away = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
    free = np.clip((centre[2] + 0.06 - v[:, 2]) / 0.10, 0, 1)  # the roots stay where they are
    around = np.arctan2(v[:, 0], v[:, 1])
    phase = np.random.default_rng(style.seed).uniform(0, 6.28, 3)
    wave = np.sin(v[:, 2] * 2 * np.pi / style.wave_length + 2.5 * np.sin(3 * around + phase[0]) + phase[1])
    rough = np.sin(around * 7 + phase[2]) * 0.3
    amount = style.volume * (0.4 + free) + style.wave * free * (wave + rough)
    return np.asarray(v + away * amount[:, None])


def _drawn_hair(model: BodyModel, person: Wearer, style: HeadStyle) -> Surface:
    """Hair without assets: the base mesh's hair helper (long) or the scalp pushed out (short)."""
    rest = person.body.vertices
    head = person.body.heads[model.index["head"]]
    if style.hair == "long":
        hair = model.groups["helper-hair"]
        middle = rest[hair].mean(axis=1)
        face = (
            (middle[:, 1] < head[1] - 0.035)
            & (middle[:, 2] < head[2] + 0.115)
            & (np.abs(middle[:, 0]) < 0.085)
        )
        quads, source = used(hair[~face & (middle[:, 2] > head[2] - 0.04 - 0.22 * style.length)], len(rest))
        v, w = rest[source], sp.csr_matrix(model.weights[source])
        even = averaging(len(v), edges(quads)[0])
    else:
        skull = rest[:BODY_VERTICES]
        line = head[2] + 0.055 + 0.6 * np.clip(head[1] - skull[:, 1], -0.1, 0.13)
        scalp = (skull[:, 2] > line)[model.quads].all(axis=1)
        quads, source = used(model.quads[scalp], BODY_VERTICES)
        v, w = skull[source], sp.csr_matrix(model.weights[source])
        even = averaging(len(v), edges(quads)[0])
        for _ in range(10):
            v = 0.5 * v + 0.5 * (even @ v)
        v = v + vertex_normals(v, triangles(quads)) * (0.016 + max(0, style.volume))
    rng = np.random.default_rng(style.seed)
    noise = rng.normal(size=len(v))
    for _ in range(4):
        noise = even @ noise
    v = v + vertex_normals(v, triangles(quads)) * (0.01 * noise)[:, None]
    tris = triangles(quads)
    around = np.arctan2(v[:, 0], v[:, 1] - head[1]) / (2 * np.pi)
    uv = np.stack([around * 3, v[:, 2] * 2], axis=1)[tris]
    wrapped = uv[:, :, 0].max(axis=1) - uv[:, :, 0].min(axis=1) > 1
    uv[wrapped, :, 0] = uv[wrapped, :, 0].mean(axis=1, keepdims=True)
    return Surface(skin(v, w, person.bones), tris, HAIR, uv=uv, texture=_drawn_strands())


@functools.lru_cache(maxsize=1)
def _drawn_strands() -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(1).normal(size=(256, 256)).astype(np.float32)
    strands = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.8, sigmaY=25, borderType=cv2.BORDER_REFLECT)
    strands = np.clip(1 + strands / strands.std() * 0.2, 0.3, 2.0)
    return np.dstack([strands] * 3 + [np.ones_like(strands)]).astype(np.float32)
