"""A garment made for one person: cut, worn and laid out, its surfaces and its shop photo's camera."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.spatial import cKDTree

from rmgn.data.people.body import BODY_VERTICES, BodyModel, skin
from rmgn.data.people.camera import Camera
from rmgn.data.people.collar import Collar, make_collar
from rmgn.data.people.garment import Garment, make_garment
from rmgn.data.people.inspection import Rejected
from rmgn.data.people.layers import LABELS
from rmgn.data.people.mesh import Floats, vertex_normals
from rmgn.data.people.raytrace import CLOTH_SHINE, GARMENT, OTHER, Surface
from rmgn.data.people.shop import Presentation, draw_presentation, lay_out, sleeve_lift
from rmgn.data.people.style import Style
from rmgn.data.people.wear import TORN, Wearer, put_on, refine, torn


@dataclass
class Worked:
    """A garment made for a person: worn and flat fine vertices, and its camera."""

    style: Style
    garment: Garment
    worn: Floats
    flat: Floats
    camera: Camera
    roll: float  # of the shop photo, degrees
    show: Presentation
    collar: Collar | None = None
    collar_worn: Floats | None = None
    collar_flat: Floats | None = None
    inner: Surface | None = None  # what is worn below an open front
    inner_hides: Garment | None = None
    inner_rest: Floats | None = None


def make_worked(
    model: BodyModel, person: Wearer, style: Style, rng: Generator, size: tuple[int, int], close: bool = False
) -> Worked:
    """Cut, drape and lay out a garment (close: with short sleeves beside the body); rejects torn cloth."""
    coarse = make_garment(model, person.body, style)
    fine, matrix = refine(coarse)
    worn = put_on(model, person, coarse, fine, matrix, style, rng)
    show = draw_presentation(rng, style, close)
    laid, laid_fine = coarse, fine
    if style.tuck is not None:  # its cut is that of a top that hangs: nothing is drawn in at the waist
        laid = make_garment(model, person.body, replace(style, tuck=None))
        laid_fine, _ = refine(laid)
    flat = lay_out(model, person.body, laid, laid_fine, matrix, style, show)
    if not (np.isfinite(worn).all() and np.isfinite(flat).all()):
        raise Rejected("cloth exploded")
    if torn(fine, worn) > TORN:
        raise Rejected("cloth torn")
    roll = float(rng.normal(0, 2)) if rng.random() < 0.3 else 0.0
    collar = make_collar(fine, style)
    shown = flat[fine.inside]
    strips: dict[str, Any] = {}
    if collar is not None:
        strips["collar_worn"] = _worn_collar(model, person, collar, worn)
        strips["collar_flat"] = collar.flat(flat)
        shown = np.concatenate([shown, strips["collar_flat"]])
    if style.opening > 0:
        strips["inner_hides"], strips["inner"], strips["inner_rest"] = inner_top(model, person, fine, rng)
    camera = shop_camera(shown, size, float(rng.uniform(1.02, 1.12)), roll)
    return Worked(style, fine, worn, flat, camera, roll, show, collar, **strips)


def move_worked(model: BodyModel, person: Wearer, worked: Worked, worn: Floats) -> Worked:
    """The garment worn as `worn` [N, 3] by the person in another pose, with all that hangs on it."""
    moved = replace(worked, worn=worn)
    if worked.collar is not None:
        moved.collar_worn = _worn_collar(model, person, worked.collar, worn)
    if worked.inner is not None and worked.inner_hides is not None and worked.inner_rest is not None:
        vertices = skin(worked.inner_rest, worked.inner_hides.weights, person.bones)
        normals = vertex_normals(vertices, worked.inner.triangles)
        moved.inner = replace(worked.inner, vertices=vertices, normals=normals)
    return moved


def _worn_collar(model: BodyModel, person: Wearer, collar: Collar, worn: Floats) -> Floats:
    neck, head = (model.joint(b, person.body, person.bones) for b in ("neck01", "head"))
    return collar.worn(worn, head - neck, person.vertices[:BODY_VERTICES], person.normals)


def inner_top(
    model: BodyModel, person: Wearer, over: Garment, rng: Generator
) -> tuple[Garment, Surface, Floats]:
    """A close plain top under the open garment `over`: its cut, its surface on the body, its rest vertices.

    Below the cloth it is sunk in, as is the body that it hides: nothing can then poke through.
    """
    hip = model.hip(person.body)
    neck = str(rng.choice(["crew", "scoop", "v"]))
    style = Style(
        kind="tank", neck=neck, neck_width=0.075, neck_depth=0.06 if neck == "crew" else 0.11, sleeve=0.0,
        strap=0.13, hem=float(person.lower.waist - hip - 0.03), ease=0.002,
    )  # fmt: skip
    garment, _ = refine(make_garment(model, person.body, style))
    tone = rng.choice([0.75, 0.6, 0.25, 0.03], p=[0.5, 0.15, 0.15, 0.2])
    colour = np.append(tone * (1 + rng.normal(0, 0.03, 3)), 1.0).astype(np.float32)
    tris = garment.trimmed(garment.outline)
    gap, near = cKDTree(over.vertices).query(garment.vertices)
    under = np.clip(-over.outline.max(axis=1)[near] / 0.015, 0, 1) * (gap < 0.09)
    normals = vertex_normals(garment.vertices, garment.triangles)
    sunk = garment.vertices + (0.001 - 0.011 * under)[:, None] * normals
    surface = Surface(
        skin(sunk, garment.weights, person.bones),
        tris,
        OTHER,
        uv=np.zeros((len(tris), 3, 2)),
        texture=np.broadcast_to(colour, (1, 1, 4)).copy(),
        trim=garment.outline.max(axis=1),
        label=LABELS["inner"],
        shine=CLOTH_SHINE,
    )
    return garment, surface, sunk


def garment_surfaces(worked: Worked, flat: bool) -> list[Surface]:
    """The garment, laid out or worn, with its collar; values have the columns that `planes` names."""
    g = worked.garment
    columns = [worked.flat, g.facing[:, None], g.seam[:, None], np.zeros((len(g.vertices), 1)), g.outline]
    vertices = worked.flat if flat else worked.worn
    outline = g.outline if flat else g.worn_outline
    level = vertices + sleeve_lift(g, worked.style, worked.show) if flat else vertices  # lifting is no slope
    cloth = Surface(
        vertices,
        g.trimmed(outline),
        GARMENT,
        values=np.column_stack(columns).astype(np.float32),
        trim=outline.max(axis=1),
        normals=vertex_normals(level, g.triangles),
    )
    collar, collar_worn, collar_flat = worked.collar, worked.collar_worn, worked.collar_flat
    if collar is None or collar_worn is None or collar_flat is None:
        return [cloth]
    far = np.full(len(collar_flat), -1.0)
    columns = [collar_flat, collar.facing[:, None], np.column_stack([far, -far, -collar.edge, far, far])]
    strip = Surface(
        collar_flat if flat else collar_worn,
        collar.triangles,
        GARMENT,
        values=np.column_stack(columns).astype(np.float32),
    )
    return [cloth, strip]


def shop_camera(shown: Floats, size: tuple[int, int], margin: float, roll: float) -> Camera:
    """An orthographic camera that has all points `shown` in its picture, tilted by `roll` degrees."""
    centre = (shown.min(axis=0) + shown.max(axis=0)) / 2
    c, s = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    x, z = (shown - centre)[:, [0, 2]].T
    wide, tall = np.abs(c * x + s * z).max(), np.abs(c * z - s * x).max()
    extent = max(tall, wide * size[0] / size[1]) * margin
    return Camera.look(centre - [0, 2, 0], centre, float(extent), size, orthographic=True, roll=roll)


def garment_meta(worked: Worked) -> dict[str, Any]:
    """What a sample's `meta.json` says of a garment: its style, its shop photo, where its fabric lies."""
    return {
        "style": asdict(worked.style),
        "shop": {
            "centre": worked.camera.eye[[0, 2]].tolist(),
            "half_height": worked.camera.half_height,
            "roll": worked.roll,
            **asdict(worked.show),
        },
        "sleeve_angle": _sleeve_angle(worked),
        "front": _front_extent(worked),
    }


def _sleeve_angle(worked: Worked) -> float:
    """Degrees by which the left sleeve hangs from the vertical in the flat garment: its fabric's grain."""
    sleeve = (worked.garment.seam > 0.01) & (worked.flat[:, 0] > 0)
    if sleeve.sum() < 20:
        return 0.0
    points = worked.flat[sleeve][:, [0, 2]]
    from_seam = worked.garment.seam[sleeve]
    high, low = (
        points[from_seam < np.quantile(from_seam, 0.3)],
        points[from_seam > np.quantile(from_seam, 0.7)],
    )
    along = low.mean(axis=0) - high.mean(axis=0)
    return float(np.degrees(np.arctan2(along[0], -along[1])))


def _front_extent(worked: Worked) -> list[float]:
    """Flat z of hem and neckline in the middle of the front: where prints and plackets go."""
    g = worked.garment
    middle = (g.facing < 0) & (np.abs(worked.flat[:, 0]) < worked.style.opening + 0.03) & g.inside
    if not middle.any():
        raise Rejected("no cloth in the middle of the front")
    z = worked.flat[middle, 2]
    return [float(z.min()), float(z.max())]
