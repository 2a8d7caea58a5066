"""What a top looks like before it is sewn: all measures that its pattern needs, drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.random import Generator


@dataclass(frozen=True)
class Style:
    """Lengths in metres unless said otherwise."""

    kind: str = "tee"
    neck: str = "crew"  # crew, scoop, v, boat, square, off (below both shoulders), one (one shoulder)
    neck_width: float = 0.075  # half the opening
    neck_depth: float = 0.055  # below the base of the neck, in front
    back_depth: float = 0.012  # likewise behind
    sleeve: float = 0.33  # share of the arm; 0 for none
    sleeve_flare: float = 0.0  # extra width at the cuff
    puff: float = 0.0  # extra width in the middle of the sleeve
    armhole: float = 0.10  # depth of a sleeveless top's armhole below the shoulder joint
    strap: float = 0.13  # from the middle to the outer edge of a sleeveless top's shoulder
    seam: str = "set-in"  # set-in, drop, raglan
    hem: float = -0.03  # height above the hip joint
    tail: float = 0.0  # by how much a curved hem rises at the sides
    dip: float = 0.0  # by how much the hem is lower behind
    slant: float = 0.0  # by how much the hem is higher at the left side and lower at the right
    flare: float = 0.0  # outward per metre of length below the hip
    ease: float = 0.01  # distance from the body
    oversize: float = 0.0  # more of it towards hem and cuffs
    tuck: float | None = None  # height above the hip joint where it goes into the waistband; None: it hangs
    opening: float = 0.0  # half the gap of an open front at the hem; 0 is closed
    ruffle: float = 0.0  # share of excess length at hem and cuffs
    collar: str = "none"  # none, stand, turtle, fold, hood
    collar_height: float = 0.028  # of the part that stands
    leaf: float = 0.045  # of the part that is folded over it
    unbuttoned: float = 0.0  # 0 to 1: how far a folded collar gapes in its shop photo, which shows its inside
    placket: str = "none"  # none, short, full, zip
    bend: float = 4e-6  # bending compliance of the coarse cloth
    crease: float = 0.01  # share of excess length, makes small folds
    bulge: float = 0.035  # half thickness of the garment in its shop photo


_LONG = 0.7  # from this share of the arm on a sleeve is long
_HIGH_WAIST = 0.13  # from this height above the hip joint on hard samples tuck tops in


# Kind, how often, and what is typical of it.
_KINDS = {
    "tee": 0.25,
    "long": 0.14,
    "tank": 0.09,
    "camisole": 0.05,
    "blouse": 0.13,
    "shirt": 0.09,
    "polo": 0.06,
    "jumper": 0.10,
    "hoodie": 0.06,
    "cardigan": 0.04,
    "jacket": 0.03,
}
_NECKS = {
    "crew": ((0.068, 0.085), (0.045, 0.075)),
    "scoop": ((0.085, 0.115), (0.08, 0.14)),
    "v": ((0.075, 0.095), (0.10, 0.18)),
    "boat": ((0.115, 0.14), (0.03, 0.05)),
    "square": ((0.085, 0.11), (0.07, 0.13)),
    "off": ((0.10, 0.11), (0.025, 0.06)),
    "one": ((0.05, 0.07), (0.05, 0.10)),
}

_TIGHT = {"tee": 0.35, "long": 0.45, "tank": 0.55, "camisole": 0.5, "jumper": 0.1}  # how often, by kind


def _pick(rng: Generator, chances: dict[str, float]) -> str:
    names = list(chances)
    weights = [chances[n] for n in names]
    total = sum(weights)
    return names[int(rng.choice(len(names), p=[w / total for w in weights]))]


def draw_pair(rng: Generator, feminine: bool, waist: float) -> tuple[Style, Style]:
    """What garments a and b of a person look like; waist: the waistband's top, metres above the hip joint."""
    tucks = bool(rng.random() < 0.3)
    return worn_alike(draw_style(rng, feminine), draw_style(rng, feminine), waist, tucks)


def draw_hard_pair(rng: Generator, feminine: bool, waist: float) -> tuple[Style, Style]:
    """What try-on gets wrong first: long sleeves, open collars, skin that one of two tops leaves bare.

    Half of the sleeves are long. Of most women one garment, a or b, ends above the waistband and the other
    falls over it, or goes into a high one, so that bare skin and the skirt's top are to disappear, or to be
    drawn. Of many one has a low and wide neck, or straps, and the other reaches the neck, or leaves the
    shoulders bare. Half of all others have their tops tucked in.
    waist: height of the waistband's top above the hip joint, metres.
    """
    cropped = int(rng.integers(2)) if feminine and rng.random() < 0.65 else None
    tucks = cropped is None and bool(rng.random() < 0.5)
    necks = _draw_neck_pair(rng) if feminine else (_is_any, _is_any)
    styles = []
    for k, is_asked in enumerate(necks):
        long = is_asked is not _has_straps and rng.random() < 0.5
        while not is_asked(style := draw_style(rng, feminine)) or (
            (style.sleeve > _LONG) != long or (k == cropped and style.opening)
        ):
            pass
        if is_asked is _is_any and style.collar == "fold" and not style.opening and rng.random() < 0.7:
            style = _unbuttoned(rng, style)
        if k == cropped:
            style = replace(style, hem=float(rng.uniform(max(0.14, waist + 0.01), 0.32)), tail=0.0)
        elif cropped is not None:
            style = replace(style, hem=min(style.hem, waist - float(rng.uniform(0.03, 0.15))))
        styles.append(style)
    return worn_alike(styles[0], styles[1], waist, tucks)


def _draw_neck_pair(rng: Generator) -> tuple[Callable[[Style], bool], Callable[[Style], bool]]:
    """What the necks of garments a and b are to be."""
    kind = rng.random()
    if kind > 0.4:
        return _is_any, _is_any
    pair = (_is_low, _is_high) if kind < 0.25 else (_has_straps, _is_off)
    return pair if rng.random() < 0.5 else pair[::-1]


def _is_any(_: Style) -> bool:
    return True


def _is_low(style: Style) -> bool:
    return style.neck in ("square", "scoop") and style.neck_depth > 0.08 and style.sleeve > 0


def _is_high(style: Style) -> bool:
    return style.neck == "crew" and style.collar in ("none", "turtle") and not style.opening


def _has_straps(style: Style) -> bool:
    return style.kind in ("camisole", "tank") and style.neck not in ("crew", "one")


def _is_off(style: Style) -> bool:
    return style.neck == "off"


def _unbuttoned(rng: Generator, style: Style) -> Style:
    """A collar worn and shown open, as polo shirts are: most often in a V down to the first closed button."""
    neck = "v" if rng.random() < 0.6 else "crew"
    depth = rng.uniform(0.07, 0.13) if neck == "v" else rng.uniform(0.04, 0.08)
    return replace(
        style,
        neck=neck,
        neck_width=float(rng.uniform(0.066, 0.084)),
        neck_depth=float(depth),
        collar_height=float(rng.uniform(0.012, 0.026)),
        unbuttoned=float(rng.uniform(0.4, 1.0)),
    )


def worn_alike(a: Style, b: Style, waist: float, tucks: bool) -> tuple[Style, Style]:
    """Both garments tucked in or neither, since no shop photo says how it is to be worn: the person does.

    Who shows the waistband below a short top has the other tucked in where it is high. Cardigans and jackets
    always hang.
    """
    if _shows(a, waist) or _shows(b, waist):
        tucks = waist > _HIGH_WAIST
    return (tucked_in(a, waist), tucked_in(b, waist)) if tucks else (a, b)


def _shows(style: Style, waist: float) -> bool:
    """Whether some of the hem lies so high that the waistband is in view below it."""
    return style.hem + style.tail + abs(style.slant) > waist - 0.02


def tucked_in(style: Style, waist: float) -> Style:
    """The style closed and tucked into a waistband whose top is `waist` metres above the hip joint.

    What is too short for it hangs, and so do cardigans and jackets.
    """
    if style.kind in ("cardigan", "jacket") or _shows(style, waist):
        return style
    return replace(style, tuck=waist - 0.018, opening=0.0)


def draw_style(rng: Generator, feminine: bool) -> Style:
    """Draw a style; the same person may wear anything, but necks and lengths follow custom."""
    kind = _pick(rng, _KINDS)
    neck = _draw_neck(rng, kind, feminine)
    collar = _draw_collar(rng, kind, neck)
    neck, widths, depths = _neckline(rng, kind, neck, collar)
    sleeve = _draw_sleeve(rng, kind)
    if kind == "camisole" and not feminine:
        return draw_style(rng, feminine)  # another kind
    tight = rng.random() < _TIGHT.get(kind, 0.1)
    ease = rng.uniform(0.003, 0.007) if tight else rng.uniform(0.007, 0.016)
    oversize = (
        0.0 if tight else float(rng.choice([rng.uniform(0, 0.012), rng.uniform(0.012, 0.034)], p=[0.6, 0.4]))
    )
    placket = _draw_placket(rng, kind, neck)
    # Jackets are open; a zip may be open or closed.
    wide_open = {"cardigan": 0.75, "jacket": 0.75, "hoodie": 0.5 * (placket == "zip"), "shirt": 0.08}
    opening = float(rng.uniform(0.025, 0.075)) if rng.random() < wide_open.get(kind, 0.0) else 0.0
    flared = kind == "blouse" and rng.random() < 0.5
    bell = feminine and sleeve > 0.5 and rng.random() < {"blouse": 0.3, "long": 0.08}.get(kind, 0.0)
    puffed = feminine and rng.random() < {"blouse": 0.4, "tee": 0.04, "long": 0.04}.get(kind, 0.0)
    ruffled = feminine and rng.random() < {"blouse": 0.25, "tee": 0.03, "camisole": 0.15}.get(kind, 0.0)
    odd = rng.random() if opening == 0 else 1.0  # hems that are not level
    hem = _draw_hem(rng, kind, feminine)
    # Fabric from satin and thin cotton that folds at once to denim that hardly does.
    low, high = {"blouse": (-5.4, -3.4), "camisole": (-5.4, -3.4), "jacket": (-7.0, -5.6)}.get(
        kind, (-6.4, -4.2)
    )
    height = rng.uniform(0.022, 0.034)
    if collar in ("turtle", "hood"):
        height *= rng.uniform(1.5, 2.5) if collar == "turtle" else 1.6
    strap = {"tank": rng.uniform(0.03, 0.07), "camisole": rng.uniform(0.012, 0.022)}.get(kind, 0.05)
    width = float(rng.uniform(*widths))
    return Style(
        kind=kind,
        neck=neck,
        neck_width=width,
        neck_depth=float(rng.uniform(*depths)),
        sleeve=sleeve,
        back_depth=float(rng.uniform(0.06, 0.15)) if kind == "camisole" else 0.012,
        sleeve_flare=float(rng.uniform(0.03, 0.06) if bell else rng.uniform(0, 0.035) if flared else 0),
        puff=float(rng.uniform(0.015, 0.045)) if puffed else 0.0,
        armhole=float(rng.uniform(0.08, 0.14)),
        strap=width + strap,
        seam="raglan" if kind in ("jumper", "long", "tee", "hoodie") and neck != "off" and
        rng.random() < 0.2 else
        "drop" if oversize > 0.015 and rng.random() < 0.5 else "set-in",
        hem=hem,
        tail=float(rng.uniform(0.02, 0.05)) if kind == "shirt" or rng.random() < 0.1 else 0.0,
        dip=float(rng.uniform(0.02, 0.08)) if odd < 0.06 else 0.0,
        slant=float(rng.choice([-1, 1]) * rng.uniform(0.02, 0.06)) if 0.06 < odd < 0.1 else 0.0,
        flare=float(rng.uniform(0, 0.25)) if not tight and rng.random() < 0.4 else 0.02,
        ease=float(ease),
        oversize=oversize,
        collar=collar,
        collar_height=float(height),
        leaf=float(rng.uniform(0.06, 0.09) if collar == "hood" else rng.uniform(0.036, 0.055)),
        opening=opening,
        ruffle=float(rng.uniform(0.2, 0.5)) if ruffled else 0.0,
        placket=placket,
        bend=float(10 ** rng.uniform(low, high)),
        crease=float(rng.choice([0.0, rng.uniform(0, 0.03), rng.uniform(0.03, 0.06)], p=[0.3, 0.45, 0.25])),
        bulge=float(rng.uniform(0.02, 0.07)),
    )  # fmt: skip


def _draw_neck(rng: Generator, kind: str, feminine: bool) -> str:
    if kind in ("tee", "long", "tank", "jumper"):
        wide = 1.0 if feminine else 0.25
        neck = _pick(
            rng, {"crew": 1.2, "scoop": 0.6 * wide, "v": 0.5, "boat": 0.35 * wide, "square": 0.3 * wide}
        )
        if feminine and rng.random() < 0.08:
            return "one" if kind == "tank" else "off"
        return neck
    if kind == "blouse":
        return _pick(rng, {"crew": 0.4, "v": 0.7, "boat": 0.2, "square": 0.3, "off": 0.2 * feminine})
    if kind == "cardigan":
        return _pick(rng, {"v": 0.7, "crew": 0.3})
    return "crew"


def _draw_collar(rng: Generator, kind: str, neck: str) -> str:
    # All are drawn whatever the kind: another order of draws would change every sample that was ever made.
    return {
        "shirt": "stand" if rng.random() < 0.12 else "fold",
        "polo": "fold",
        "hoodie": "hood",
        "jumper": "turtle" if rng.random() < 0.3 and neck == "crew" else "none",
        "long": "turtle" if rng.random() < 0.1 and neck == "crew" else "none",
        "jacket": str(rng.choice(["stand", "fold", "hood", "none"])),
        "blouse": "fold" if neck == "crew" and rng.random() < 0.3 else "none",
    }.get(kind, "none")


def _neckline(
    rng: Generator, kind: str, neck: str, collar: str
) -> tuple[str, tuple[float, float], tuple[float, float]]:
    """The neck, and what its half width and its depth are drawn from."""
    widths, depths = _NECKS[neck]
    if kind in ("shirt", "polo", "jacket"):
        widths, depths = (0.060, 0.068), (0.03, 0.06)
    if kind == "camisole":
        neck = str(rng.choice(["scoop", "square", "v"]))
        widths, depths = (0.095, 0.112), (0.12, 0.17)
    if kind == "hoodie":
        widths, depths = (0.066, 0.074), (0.055, 0.075)
    if collar == "turtle":
        neck, widths, depths = "crew", (0.058, 0.066), (0.02, 0.035)
    return neck, widths, depths


def _draw_sleeve(rng: Generator, kind: str) -> float:
    sleeve = {
        "tee": rng.choice([0.16, 0.28, 0.34, 0.40, 0.5], p=[0.1, 0.3, 0.35, 0.15, 0.1]),
        "long": rng.choice([0.72, 0.97, 0.99], p=[0.2, 0.3, 0.5]),
        "tank": 0.0,
        "camisole": 0.0,
        "blouse": rng.choice([0.3, 0.55, 0.75, 0.97], p=[0.25, 0.2, 0.25, 0.3]),
        "shirt": rng.choice([0.36, 0.75, 0.98], p=[0.3, 0.1, 0.6]),
        "polo": rng.choice([0.32, 0.38, 0.97], p=[0.5, 0.35, 0.15]),
        "jumper": rng.choice([0.5, 0.98], p=[0.1, 0.9]),
        "hoodie": 0.99,
        "cardigan": rng.choice([0.72, 0.98], p=[0.15, 0.85]),
        "jacket": 0.99,
    }[kind]
    return float(sleeve * rng.uniform(0.95, 1.01)) if sleeve > 0 else 0.0


def _draw_placket(rng: Generator, kind: str, neck: str) -> str:
    placket = {"shirt": "full", "polo": "short", "cardigan": "full", "jacket": "zip"}.get(kind, "none")
    if kind == "blouse" and neck != "off" and rng.random() < 0.4:
        placket = "full"
    if rng.random() < {"hoodie": 0.4, "jumper": 0.06}.get(kind, 0.0):
        placket = "zip"
    return placket


def _draw_hem(rng: Generator, kind: str, feminine: bool) -> float:
    hem = rng.choice(
        [rng.uniform(-0.06, 0.0), rng.uniform(0.0, 0.06), rng.uniform(0.06, 0.15)], p=[0.5, 0.35, 0.15]
    )
    if feminine and rng.random() < {"tank": 0.2, "camisole": 0.25, "tee": 0.12, "long": 0.12}.get(kind, 0.03):
        hem = rng.uniform(0.14, 0.21)  # cropped
    if kind in ("cardigan", "jacket"):
        hem = rng.uniform(-0.1, 0.1)
    return float(hem)
