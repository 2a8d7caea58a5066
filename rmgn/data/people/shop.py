"""How shops show a garment: laid flat, hung up, or as if worn by somebody invisible.

The picture plane (x, z) is the garment's atlas. Depth (y) only makes light and shadow, so that it is shaped
freely: flow stays an affine function of the flat place whatever the presentation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.random import Generator

from rmgn.data.people.body import Body, BodyModel, skin
from rmgn.data.people.cloth import lay
from rmgn.data.people.garment import CUFF, HEM, Garment, signed_distance
from rmgn.data.people.mesh import Floats, vertex_normals
from rmgn.data.people.pose import Arm, Pose, transforms
from rmgn.data.people.style import Style

_THIN = 0.45  # how much of the thickness remains in which the cloth was laid


@dataclass(frozen=True)
class Presentation:
    """One way to show a garment. Lengths in metres."""

    kind: str = "flat"  # flat, hung, ghost
    spread: float = 0.4  # sideways direction of the sleeves per length downwards
    volume: float = 0.0  # how far the middle stands out, as if there were a body in it
    folds: float = 0.0  # depth of the folds
    seed: int = 0


def draw_presentation(rng: Generator, style: Style, close: bool = False) -> Presentation:
    """Draw how a garment is shown; long sleeves hang beside the body, short ones stand off.

    Shops mostly lay sleeves close: tops of VITON and VITON-HD are 0.7 to 0.9 times as wide as high.
    close: short sleeves too, which makes the same tops a tenth less wide for their height.
    """
    kind = str(rng.choice(["flat", "hung", "ghost"], p=[0.45, 0.15, 0.4]))
    long = style.sleeve > 0.5
    spans = {
        "flat": (0.06, 0.38) if long else (0.05, 0.35) if close else (0.22, 0.65),
        "hung": (0.05, 0.2) if long else (0.05, 0.25) if close else (0.12, 0.4),
        "ghost": (0.04, 0.26) if long else (0.04, 0.3) if close else (0.12, 0.5),
    }
    spread = {name: rng.uniform(*span) for name, span in spans.items()}[kind]
    volume = {"flat": 0.0, "hung": rng.uniform(0.0, 0.02), "ghost": rng.uniform(0.025, 0.06)}[kind]
    folds = float(rng.uniform(0, {"flat": 0.0015, "hung": 0.003, "ghost": 0.0015}[kind]))
    return Presentation(kind, float(spread), float(volume), folds, int(rng.integers(1 << 30)))


def lay_out(
    model: BodyModel, body: Body, coarse: Garment, fine: Garment, matrix: sp.csr_matrix, style: Style,
    show: Presentation,
) -> Floats:  # fmt: skip
    """The garment as its shop photo shows it: [N, 3] fine vertices, x and z in the picture plane, y depth."""
    arm = Arm((show.spread, 0, -1), (show.spread * 0.8, 0, -1))
    bones = transforms(model, body.heads, Pose("shop", arm, arm))
    x = skin(coarse.vertices, coarse.weights, bones)
    normal = vertex_normals(x, coarse.triangles)
    for _ in range(3):
        normal = coarse.even @ normal
    front = normal[:, 1] < 0
    x = (x - [0, float(x[:, 1].mean()), 0]) * [1, 0.25 + 6 * max(0.0, style.bulge - 0.035), 1]
    sleeve = np.clip(0.5 + coarse.seam / 0.1, 0, 1)
    depth = style.bulge * (1 - 0.4 * sleeve)
    x = lay(x, coarse.constraints, front, 200, depth)
    x = _even_flat(coarse, x, 8)
    x = np.asarray(matrix @ x)
    facing = np.asarray(matrix @ np.where(front, -1.0, 1.0))
    x = lay(x, fine.constraints, facing < 0, 30, np.asarray(matrix @ depth), bend=0.3)
    x = _even_flat(fine, x, 12)
    x = _straighten(fine, x, facing, style) * [1, _THIN, 1]
    x = x + _relief(fine, x, facing, show) * [0, 1, 0]
    return np.asarray(x - sleeve_lift(fine, style, show))


def sleeve_lift(garment: Garment, style: Style, show: Presentation) -> Floats:
    """[N, 3] how far sleeves lie before the torso in a shop photo, since they may hang over it."""
    thick = 1.6 * _THIN * style.bulge + 0.5 * show.volume + 0.004
    return np.outer(thick * np.clip(garment.seam / 0.08, 0, 1), [0.0, 1.0, 0.0])


def _even_flat(garment: Garment, x: Floats, rounds: int) -> Floats:
    """Smooth without shrinking in the plane: a stripe across a ragged atlas looks ragged on the person."""
    even = garment.even
    for _ in range(rounds):
        for share in (0.5, -0.52):
            x = x + share * (even @ x - x) * [1, 0, 1]
        x = x + 0.3 * (even @ x - x) * [0, 1, 0]
    return x


def _straighten(garment: Garment, x: Floats, facing: Floats, style: Style) -> Floats:
    """Shops straighten hems and cuffs: each becomes a gentle curve, the back's hidden behind the front's."""
    x = x.copy()
    sleeve = garment.seam > 0
    ends = [(HEM, ~sleeve, 4)]
    if sleeve.any():
        ends += [(CUFF, sleeve & (x[:, 0] * side > 0), 2) for side in (1, -1)]
    for column, part, degree in ends:
        gap = np.abs(garment.outline[:, column])
        rim = part & (gap < 0.012)
        if rim.sum() < 24:
            continue
        along = np.array([0.0, -1.0])
        if column == CUFF:
            far = part & (gap > 0.04) & (gap < 0.12)
            if far.sum() < 8:
                continue
            along = x[rim][:, [0, 2]].mean(axis=0) - x[far][:, [0, 2]].mean(axis=0)
            along /= np.linalg.norm(along)
        across = np.array([-along[1], along[0]])
        s, t = x[:, [0, 2]] @ across, x[:, [0, 2]] @ along
        middle, half = s[rim].mean(), max(1e-3, float(np.ptp(s[rim])) / 2)
        u = (s - middle) / half
        # The line on which the outline ends: where a rim vertex would be if it lay on it.
        end = t - garment.outline[:, column]
        front = facing < 0
        fit = None
        for half_mesh, lift in ((front, 0.0), (~front, 0.004 if column == HEM else 0.0)):
            own = rim & half_mesh
            if not own.any():
                continue
            if fit is None or (column == HEM and style.dip > 0):  # a hem that is longer behind shows there
                fit, lift = np.polynomial.Polynomial.fit(u[own], end[own], degree, [-1, 1]), 0.0
            order = np.argsort(u[own])
            at, off = u[own][order], (fit(u[own]) - lift - end[own])[order]
            bins = np.linspace(-1, 1, 41)
            which = np.clip(np.digitize(at, bins) - 1, 0, 39)
            count = np.bincount(which, minlength=40)
            mean = np.bincount(which, off, minlength=40) / np.maximum(count, 1)
            has = count > 0
            move = np.interp(u, (0.5 * (bins[1:] + bins[:-1]))[has], mean[has])
            fade = np.clip(1 - gap / 0.1, 0, 1) ** 2 * (3 - 2 * np.clip(1 - gap / 0.1, 0, 1))
            chosen = part & half_mesh
            x += (move * fade * chosen)[:, None] * [along[0], 0, along[1]]
    for _ in range(3):
        for share in (0.5, -0.52):
            x = x + share * (garment.even @ x - x) * [1, 0, 1]
    return x


def _relief(garment: Garment, x: Floats, facing: Floats, show: Presentation) -> Floats:
    """[N, 1] depth to add: a rounded body, and folds that hang from shoulders and armholes."""
    if show.volume <= 0 and show.folds <= 0:
        return np.zeros((len(x), 1))
    rng = np.random.default_rng(show.seed)
    rim = np.abs(signed_distance(x * [1, 0, 1], garment.quads, facing))
    sleeve = np.clip(0.5 + garment.seam / 0.1, 0, 1)
    reach = 0.13 * (1 - sleeve) + 0.05 * sleeve
    share = np.clip(rim / reach, 0, 1)
    dome = np.sqrt(share * (2 - share)) * show.volume * (1 - 0.45 * sleeve)
    wave = np.zeros(len(x))
    for _ in range(7):
        turn = rng.normal(0, 0.2)
        length = rng.uniform(0.05, 0.14)
        place = x[:, 0] * np.cos(turn) + x[:, 2] * np.sin(turn)
        bend = 0.4 * np.sin(x[:, 2] / rng.uniform(0.1, 0.3) + rng.uniform(0, 6))
        patch = np.exp(-(((x[:, 2] - rng.uniform(x[:, 2].min(), x[:, 2].max())) / 0.2) ** 2))
        wave += patch * np.sin(place * 2 * np.pi / length + bend + rng.uniform(0, 6))
    out = np.where(facing < 0, -1.0, 1.0)
    return np.asarray(out * dome + show.folds * wave * np.clip(rim / 0.03, 0, 1))[:, None]
