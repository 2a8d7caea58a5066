"""Free shapes and pictures from a folder: MakeHuman's hair, brows, lashes and skins, and surroundings.

The folder has `makehuman/` (or is that folder itself) in MakeHuman's own layout, and `hdri/` with
equirectangular pictures. Everything is optional; what is missing is drawn instead.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from engines.picture_files import decoded
from rmgn.data.people.mesh import Floats, Ints

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Proxy:
    """A `.mhclo`: every vertex hangs on three base vertices with weights and a scaled offset."""

    base: Ints  # [N, 3]
    share: Floats  # [N, 3]
    offset: Floats  # [N, 3] in MakeHuman's axes, decimetres
    scales: dict[int, tuple[int, int, float]]  # axis -> two base vertices and their reference distance
    triangles: Ints  # [T, 3]
    uv: Floats  # [T, 3, 2]

    def fit(self, rest: Floats, weights: sp.csr_matrix) -> tuple[Floats, sp.csr_matrix]:
        """Place it on a body's rest mesh: vertices [N, 3] in our axes and skin weights [N, bones]."""
        theirs = np.stack([rest[:, 0], rest[:, 2], -rest[:, 1]], axis=1) * 10
        scale = np.ones(3)
        for axis, (first, second, distance) in self.scales.items():
            scale[axis] = abs(theirs[first, axis] - theirs[second, axis]) / distance
        p = np.einsum("nk,nkj->nj", self.share, theirs[self.base]) + self.offset * scale
        rows = np.repeat(np.arange(len(p)), 3)
        mix = sp.csr_matrix(
            (np.maximum(self.share, 0).ravel(), (rows, self.base.ravel())), (len(p), len(rest))
        )
        hung = mix @ weights
        hung = sp.diags(1 / np.maximum(np.asarray(hung.sum(axis=1)).ravel(), 1e-9)) @ hung
        return np.stack([p[:, 0], -p[:, 2], p[:, 1]], axis=1) / 10, sp.csr_matrix(hung)


def _read_obj(path: Path) -> tuple[int, Ints, Floats]:
    """Vertex count, triangles and their corners' texture coordinates."""
    count, uv, faces, corners = 0, [], [], []
    for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            count += 1
        elif words[0] == "vt":
            uv.append((float(words[1]), float(words[2])))
        elif words[0] == "f":
            parts = [w.split("/") for w in words[1:]]
            v = [int(p[0]) - 1 for p in parts]
            t = [int(p[1]) - 1 if len(p) > 1 and p[1] else 0 for p in parts]
            for i in range(1, len(v) - 1):
                faces.append((v[0], v[i], v[i + 1]))
                corners.append((t[0], t[i], t[i + 1]))
    coordinates = np.array(uv or [(0.0, 0.0)])
    return count, np.array(faces), coordinates[np.array(corners)]


def read_proxy(path: Path) -> Proxy:
    """Parse a `.mhclo` and the `.obj` beside it. Raises ValueError, which names it, where one is damaged."""
    try:
        return _read_proxy(path)
    except (ValueError, IndexError, OSError) as error:
        raise ValueError(f"{path}, or the .obj that it names, is damaged: {error}") from error


def _read_proxy(path: Path) -> Proxy:
    base, share, offset = [], [], []
    scales: dict[int, tuple[int, int, float]] = {}
    obj, section = "", ""
    for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] in ("verts", "delete_verts"):
            section = words[0]
        elif words[0] == "obj_file":
            obj = words[1]
        elif words[0] in ("x_scale", "y_scale", "z_scale"):
            scales["xyz".index(words[0][0])] = (int(words[1]), int(words[2]), float(words[3]))
        elif section == "verts" and words[0].lstrip("-").isdigit():
            n = [float(w) for w in words]
            if len(n) == 1:
                n = [n[0], n[0], n[0], 1, 0, 0]
            if len(n) < 6:
                raise ValueError(f"a vertex hangs on three others with three weights, not {line.strip()!r}")
            base.append([int(i) for i in n[:3]])
            share.append(n[3:6])
            offset.append(n[6:9] if len(n) >= 9 else [0, 0, 0])
    count, tris, uv = _read_obj(path.parent / obj)
    if count != len(base):
        raise ValueError(f"expected {count} vertex lines for {obj}, found {len(base)}")
    return Proxy(np.array(base), np.array(share), np.array(offset), scales, tris, uv)


def read_texture(path: Path) -> F32:
    """RGBA float32 [h, w, 4], colours linear, opacity 1 where the file has none."""
    picture = decoded(path)
    if picture is None:
        raise ValueError(f"cannot read texture {path}")
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    rgba = np.ones((*picture.shape[:2], 4), np.float32)
    rgba[:, :, :3] = (picture[:, :, 2::-1].astype(np.float32) / 255) ** 2.2
    if picture.shape[2] == 4:
        rgba[:, :, 3] = picture[:, :, 3].astype(np.float32) / 255
    return rgba


class Assets:
    """What a folder offers; pictures and shapes are read when first used and kept.

    Raises `ValueError` for a folder in which nothing is found: all would be drawn without a word.
    """

    def __init__(self, root: Path | None) -> None:
        if root is not None and not root.is_dir():
            raise ValueError(f"no such assets folder: {root}")
        self.root = root
        people = root / "makehuman" if root and (root / "makehuman").is_dir() else root
        self.skins = _files(people, "skins/**/*diffuse*.jpg", "skins/**/*diffuse*.png")
        self.hair = {p.stem: p for p in _files(people, "hair/*/*.mhclo")}
        self.brows = _files(people, "eyebrows/*/*.mhclo")
        self.lashes = _files(people, "eyelashes/*/*.mhclo")
        self.surroundings = _files(root, "hdri/*.exr", "hdri/*.hdr")
        if root is not None and not any(self.kinds().values()):
            raise ValueError(
                f"no assets in {root}: looked for makehuman/ (or in it itself) with skins/**/*diffuse*.jpg, "
                "hair/*/*.mhclo, eyebrows/ and eyelashes/ likewise, and for hdri/*.exr or *.hdr; "
                "see docs/data.md, or leave --assets out"
            )
        self.proxy = functools.lru_cache(maxsize=None)(read_proxy)
        self.texture = functools.lru_cache(maxsize=64)(read_texture)

    def kinds(self) -> dict[str, int]:
        """How many there are of each kind."""
        return {
            "skins": len(self.skins),
            "hair styles": len(self.hair),
            "eyebrows": len(self.brows),
            "eyelashes": len(self.lashes),
            "surroundings": len(self.surroundings),
        }

    def files(self) -> list[Path]:
        """All that is numbered and drawn from: one more or fewer, and other samples are drawn."""
        return [*self.skins, *self.hair.values(), *self.brows, *self.lashes, *self.surroundings]

    def proxy_texture(self, proxy: Path) -> Path | None:
        """The colour texture that lies beside a `.mhclo`, if any."""
        beside = _files(proxy.parent, "*.png", "*.jpg")
        beside = [p for p in beside if "normal" not in p.stem and "ao" not in p.stem.split("_")]
        return beside[0] if beside else None


def _files(root: Path | None, *patterns: str) -> list[Path]:
    if root is None:
        return []
    found = {p for pattern in patterns for p in root.glob(pattern)}
    return sorted(p for p in found if not p.name.startswith("."))  # as a Mac's archives hold beside each


@functools.lru_cache(maxsize=4)
def assets(root: Path | None) -> Assets:
    """The assets of a folder, shared within a process; None for none at all."""
    return Assets(root)


FEW = 4  # of which no part is held back for evaluation


def announce(root: Path | None) -> None:
    """Print once what an assets folder offers, and a warning where a kind is missing; nothing for None."""
    if root is None:
        return
    kinds = assets(root).kinds()
    print("assets: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count), flush=True)
    missing = [kind for kind, count in kinds.items() if not count]
    if missing:
        print(f"warning: no {', '.join(missing)} in {root}: they are drawn instead", file=sys.stderr)
    if 0 < kinds["surroundings"] < FEW:
        print(f"warning: fewer than {FEW} surroundings: training and evaluation share them", file=sys.stderr)
