"""All surfaces of a person in one garment: what it hides, what lies on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from rmgn.data.people.accessories import Accessories, accessory_surfaces
from rmgn.data.people.assets import Assets
from rmgn.data.people.body import BODY_VERTICES, BodyModel
from rmgn.data.people.camera import Camera
from rmgn.data.people.carried import Carried, Mask, Unfit, carried_surfaces, cloth_of
from rmgn.data.people.face import eye_surface, gaze_angles, mouth_surfaces
from rmgn.data.people.garment import NECK, Garment
from rmgn.data.people.hair import locks
from rmgn.data.people.head import HeadStyle, skin_surface, strand_surfaces
from rmgn.data.people.inspection import Rejected
from rmgn.data.people.layers import LABELS
from rmgn.data.people.lower import shoe_surfaces
from rmgn.data.people.mesh import Floats, vertex_normals
from rmgn.data.people.raytrace import LOWER, Surface
from rmgn.data.people.style import Style
from rmgn.data.people.wear import Wearer
from rmgn.data.people.worked import Worked, garment_surfaces


@dataclass(frozen=True)
class Outfit:
    """A person's head and what is worn beside the two garments, and the camera that the eyes may look at."""

    model: BodyModel
    head: HeadStyle
    assets: Assets
    shoe: tuple[float, float, float]  # linear colour
    accessories: Accessories
    carried: Carried
    camera: Camera

    def surfaces(self, person: Wearer, strict: bool = False) -> Callable[[Worked], list[Surface]]:
        """All surfaces of the person in a pose, as a function of the garment.

        What does not fit on the garment is left away, or, with `strict`, raises `Rejected`.
        """
        model, head, assets = self.model, self.head, self.assets
        gaze = gaze_angles(model, person, head.expression, self.camera.eye)
        strands = [
            eye_surface(model, person, head.iris, gaze),
            *(mouth_surfaces(model, person) if head.expression.actions.get("jawOpen", 0) > 0 else []),
            *strand_surfaces(model, person, head, assets),
            *accessory_surfaces(model, person, self.accessories),
            *shoe_surfaces(model, person.body, person.bones, self.shoe),
        ]

        def wearing(worked: Worked) -> list[Surface]:
            try:
                return dressed_surfaces(model, person, worked, strands, head, assets, self.carried)
            except Unfit as reason:
                if strict:
                    raise Rejected(str(reason)) from reason
                # In a clip a moment without the bag is better than none.
                return dressed_surfaces(model, person, worked, strands, head, assets, Carried())

        return wearing


def dressed_surfaces(
    model: BodyModel, person: Wearer, worked: Worked, strands: list[Surface], head: HeadStyle, assets: Assets,
    carried: Carried,
) -> list[Surface]:  # fmt: skip
    """All surfaces of the person in one garment."""
    rest = person.body.vertices[:BODY_VERTICES]
    arm = model.bone_weight("upperarm", "lowerarm", "wrist", "finger", "meta")[:BODY_VERTICES] > 0.5
    style = worked.style
    hides = {"none": 0.0, "stand": 0.6 * style.collar_height, "turtle": 0.6 * style.collar_height}
    under = _under(rest, worked.garment, hides.get(style.collar, 0.008))
    if worked.inner is not None and worked.inner_hides is not None:
        strands = [*strands, worked.inner]
        under = np.maximum(under, _under(rest, worked.inner_hides, 0.006))
    hidden = under > np.where(arm, 0.018, 0.03)
    covered = (rest[:, 2] < person.lower.waist - 0.03) & (rest[:, 2] > person.lower.bottom + 0.04)
    hidden = hidden | covered & ~arm
    lower = person.lower
    lower_under = (
        _under(lower.vertices, worked.garment) if worked.style.tuck is None else np.zeros(len(lower.vertices))
    )
    shown = ~(lower_under > 0.022)[lower.triangles].all(axis=1)
    cloth = np.column_stack([lower.cloth[:, 0], lower.facing, lower.cloth[:, 1]])
    below = Surface(
        _drawn_in(person.lower_vertices, person.lower_normals, lower_under),
        lower.triangles[shown],
        LOWER,
        values=cloth,
        normals=person.lower_normals,
    )
    body = skin_surface(model, person, head, assets, hidden)
    body.vertices = _drawn_in(person.vertices[:BODY_VERTICES], person.normals, under)
    if worked.style.sleeve > 0.85:  # a long sleeve covers the watch
        strands = [s for s in strands if s.label not in (LABELS["left arm"], LABELS["right arm"])]
    garment = garment_surfaces(worked, flat=False)
    if head.locks:
        strands = [*strands, _locks(model, person, worked, head, under < 0.01)]
    g = worked.garment
    trunk = cloth_of(worked.worn, g.triangles, g.seam, g.worn_outline)
    if worked.inner is not None and worked.inner_hides is not None:  # which straps cross in an open front
        top = worked.inner_hides
        points = np.asarray(worked.inner.vertices, np.float64)
        inner = cloth_of(points, worked.inner.triangles, top.seam, top.outline)
        trunk = np.concatenate([trunk[0], inner[0]]), np.concatenate([trunk[1], inner[1]])
    beneath = (under > 0.01, lower_under > 0.01)
    things = carried_surfaces(
        model, person, carried, trunk, waistband_seen(model, person, worked.style), beneath
    )
    return [body, below, *garment, *strands, *things]


def waistband_seen(model: BodyModel, person: Wearer, style: Style) -> bool:
    """Whether a garment leaves the waistband in view, and the belt in it with it."""
    bare = model.hip(person.body) + style.hem > person.lower.waist - 0.01
    return style.tuck is not None or style.opening > 0 or bare


def _locks(model: BodyModel, person: Wearer, worked: Worked, head: HeadStyle, bare: Mask) -> Surface:
    """Long hair over the shoulders, laid on this garment and on bare skin."""
    g = worked.garment
    kept = g.worn_outline.max(axis=1) < 0
    points = np.concatenate([person.vertices[:BODY_VERTICES][bare], worked.worn[kept]])
    normals = np.concatenate([person.normals[bare], vertex_normals(worked.worn, g.triangles)[kept]])
    return locks(model, person, (points, normals), head.locks, head.lock_length, head.wave, head.seed)


def _under(points: Floats, garment: Garment, above: float = 0.0) -> Floats:
    """How far inside a garment's outline rest points lie, metres; 0 for those not under it.

    above: the neckline counts as that much higher, for what a collar or the neckline's edge hides.
    """
    gap, near = cKDTree(garment.vertices).query(points, distance_upper_bound=0.09)
    known = gap < 0.09
    near = np.where(known, near, 0)
    outline = garment.worn_outline[near]
    # A chin is nearest to the neckline too, and higher by more than any collar.
    higher = np.clip(points[:, 2] - garment.vertices[near, 2], 0, None)
    outline[:, NECK] += higher - above
    return np.asarray(np.where(known, np.clip(-outline.max(axis=1), 0, None), 0))


def _drawn_in(vertices: Floats, normals: Floats, under: Floats) -> Floats:
    """What lies under cloth, up to 7 mm thinner: drawn cloth then covers it, and edges show no step."""
    return np.asarray(vertices - np.clip(0.5 * under, 0, 0.007)[:, None] * normals)
