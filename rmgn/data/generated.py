"""The data set over a folder of layers: every pass dresses the same people anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from rmgn.data.look import Look, draw_look, half_texture
from rmgn.data.people import layers
from rmgn.data.people.layers import PLACE_ZERO, Sample, Shop, Worn
from rmgn.data.stock import stock

Batch = dict[str, Tensor]
SPLITS = ("train", "eval")
_SMALL = 300  # pictures up to this height take textures at half resolution

_LABEL_SWAP = np.arange(256, dtype=np.uint8)
_LABEL_SWAP[[9, 10, 11, 13]] = [10, 9, 13, 11]
_PART_SWAP = np.arange(256, dtype=np.uint8)
for _a, _b in ((3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20), (21, 22)):
    _PART_SWAP[[_a, _b]] = [_b, _a]
_POINT_SWAP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def mirror(sample: Sample) -> Sample:
    """The sample seen in a mirror. Fabrics are drawn afterwards, so letters stay readable."""

    def flip(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(plane[:, ::-1])

    def codes(garment: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        garment = flip(garment)
        panel = garment[..., 1] & layers.PANEL
        sleeve = (panel == layers.SLEEVE_LEFT) | (panel == layers.SLEEVE_RIGHT)
        garment[..., 1] ^= sleeve.astype(np.uint8) * (layers.SLEEVE_LEFT ^ layers.SLEEVE_RIGHT)
        return garment

    def worn(w: Worn) -> Worn:
        flipped = {f.name: flip(getattr(w, f.name)) for f in fields(w)}
        place = flipped["place"]
        for k in (0, 2):
            place[..., k] = np.where(place[..., k] > 0, 2 * PLACE_ZERO - place[..., k].astype(np.int32), 0)
        return Worn(**{**flipped, "garment": codes(w.garment), "labels": _LABEL_SWAP[flipped["labels"]]})

    def shop(s: Shop) -> Shop:
        return Shop(codes(s.garment), flip(s.light), flip(s.gloss))

    width = sample.parts.shape[1]
    meta = {**sample.meta}
    points = [sample.meta["keypoints"][k] for k in _POINT_SWAP]
    meta["keypoints"] = [[round(width - x, 2), y, v] for x, y, v in points]
    meta["garments"] = [{**g, "shop": _mirrored(g["shop"])} for g in meta["garments"]]
    return replace(
        sample,
        worn=(worn(sample.worn[0]), worn(sample.worn[1])),
        shop=(shop(sample.shop[0]), shop(sample.shop[1])),
        parts=_PART_SWAP[flip(sample.parts)],
        meta=meta,
    )


def _mirrored(shop: dict[str, Any]) -> dict[str, Any]:
    x, z = shop["centre"]
    return {**shop, "centre": [-x, z], "roll": -shop["roll"]}


def tensors(sample: Sample, look: Look) -> Batch:
    """One sample and one look as tensors, ready to be collated; dimension [2] holds garments a and b."""
    small = sample.parts.shape[0] <= _SMALL

    def texture(t: npt.NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(half_texture(t) if small else t)

    def pair(planes: Sequence[npt.NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(planes))

    items: Batch = {
        f.name: pair([getattr(w, f.name) for w in sample.worn]) for f in fields(Worn) if f.name != "place"
    }
    items["place"] = pair([w.place.astype(np.int32) for w in sample.worn])
    items["depth"] = pair([w.depth.astype(np.int32) for w in sample.worn])
    items.update({f"shop_{f.name}": pair([getattr(s, f.name) for s in sample.shop]) for f in fields(Shop)})
    items["parts"] = torch.from_numpy(sample.parts)
    made = sample.meta["garments"]
    places = [[*g["shop"]["centre"], g["shop"]["half_height"], np.deg2rad(g["shop"]["roll"])] for g in made]
    items["shop_place"] = torch.tensor(places, dtype=torch.float32)
    items["front"] = torch.tensor([g["front"] for g in made], dtype=torch.float32)
    items["sleeve_angle"] = torch.deg2rad(
        torch.tensor([g["sleeve_angle"] for g in made], dtype=torch.float32)
    )
    items["keypoints"] = torch.tensor(sample.meta["keypoints"], dtype=torch.float32)
    for name in ("palette", "band", "numbers"):
        items[name] = pair([np.asarray(getattr(g, name), np.float32) for g in look.garments])
    for name in ("tile", "overlay"):
        items[name] = torch.stack([texture(getattr(g, name)) for g in look.garments])
    items["lower_tile"], items["lower_overlay"] = texture(look.lower_tile), texture(look.lower_overlay)
    for name in ("skin", "hair", "lower_palette", "camera", "shop"):
        items[name] = torch.from_numpy(np.asarray(getattr(look, name), np.float32))
    items["skin_power"] = torch.tensor(look.skin_power, dtype=torch.float32)
    items["backdrop"] = torch.from_numpy(look.backdrop)
    return items


class GeneratedPeople(Dataset[Batch]):
    """Layers of a folder with a freshly drawn look each time: feed its batches to `rmgn.data.dress.dress`.

        people = GeneratedPeople(Path("layers"), assets=Path("assets"))
        for batch in DataLoader(people, batch_size=8, num_workers=2, collate_fn=people.collate):
            dressed = dress({k: v.to(device) for k, v in batch.items()})

    `split="eval"` draws prints, fonts and backdrops that `"train"` never shows. The look depends on `seed`,
    the epoch (`set_epoch`) and the index alone, not on the worker.
    """

    def __init__(
        self, folder: Path, seed: int = 0, flip: bool = True, assets: Path | None = None, split: str = "train"
    ) -> None:
        self.files = sorted(folder.glob("[0-9]*.zip"))
        if not self.files:
            raise ValueError(f"no layers in {folder}: make some with `python -m rmgn.data.generate`")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
        self._seed, self._flip, self._assets, self._split = seed, flip, assets, split
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other looks from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self._seed, self._epoch, index, SPLITS.index(self._split)])
        sample = layers.load(self.files[index])
        if self._flip and rng.random() < 0.5:
            sample = mirror(sample)
        height, width = sample.parts.shape
        return tensors(sample, draw_look(rng, sample.meta, (height, width), stock(self._assets, self._split)))

    @staticmethod
    def collate(items: list[Batch]) -> Batch:
        """Stack samples into a batch."""
        stacked: Batch = default_collate(items)
        return stacked
