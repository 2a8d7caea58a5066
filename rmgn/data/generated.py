"""The data set over a folder of layers: every pass dresses the same people anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from rmgn.data.look import CAMERA, SHOP, Look, draw_look, scaled, texture_for
from rmgn.data.people import layers
from rmgn.data.people.layers import PLACE_ZERO, Sample, Shop, Worn
from rmgn.data.stock import stock
from rmgn.data.transform import mirror, shrink

Batch = dict[str, Tensor]
SPLITS = ("train", "eval")
_COMPANY = 0.12  # how often somebody else is in the back


def auto_exposure(sample: Sample) -> float:
    """How much more light a camera that looks after faces lets in: dim skin is lifted, not all the way."""
    light, share = 0.0, 1e-3
    for worn in sample.worn:
        skin = worn.cover[::4, ::4, 0].astype(np.float32)
        light += float((layers.unpack_light(worn.light[::4, ::4]).mean(axis=-1) * skin).sum())
        share += float(skin.sum())
    return float(np.clip((0.8 / max(light / share, 1e-2)) ** 0.6, 0.85, 1.9))


def tensors(sample: Sample, look: Look) -> Batch:
    """One sample and one look as tensors, ready to be collated; dimension [2] holds garments a and b.

    Planes of 16 bits are int16: `place` around its zero, `depth` with the same bits.
    """
    height, width = sample.parts.shape

    def texture(t: npt.NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(texture_for(height, t))

    def pair(planes: Sequence[npt.NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(planes))

    items: Batch = {
        f.name: pair([getattr(w, f.name) for w in sample.worn])
        for f in fields(Worn)
        if f.name not in layers.WIDE
    }
    items["place"] = pair([(w.place ^ PLACE_ZERO).view(np.int16) for w in sample.worn])
    items["depth"] = pair([w.depth.view(np.int16) for w in sample.worn])
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
    items["tile"] = torch.stack([texture(g.tile) for g in look.garments])
    items["overlay"] = torch.stack([texture(g.overlay) for g in look.garments])
    items["lower_tile"], items["lower_overlay"] = texture(look.lower_tile), texture(look.lower_overlay)
    for name in ("skin", "hair", "lower_palette"):
        items[name] = torch.from_numpy(np.asarray(getattr(look, name), np.float32))
    items["skin_power"] = torch.tensor(look.skin_power, dtype=torch.float32)
    items["gain"] = torch.tensor(auto_exposure(sample))
    items["grain"] = torch.from_numpy(look.grain)
    # A look is drawn for the layers' own size; in a smaller picture blur and noise are smaller too.
    scale = look.backdrop.shape[0] // height
    items["camera"] = torch.from_numpy(scaled(look.camera, CAMERA, scale))
    items["shop"] = torch.from_numpy(scaled(look.shop, SHOP, scale))
    backdrop = cv2.resize(look.backdrop, (width, height), interpolation=cv2.INTER_AREA)
    items["backdrop"] = torch.from_numpy(np.asarray(backdrop, np.uint8))
    return items


class GeneratedPeople(Dataset[Batch]):
    """Layers of a folder with a freshly drawn look each time: feed its batches to `rmgn.data.dress.dress`.

        people = GeneratedPeople(Path("layers"), assets=Path("assets"))
        for batch in DataLoader(people, batch_size=8, num_workers=2, collate_fn=people.collate):
            dressed = dress({k: v.to(device) for k, v in batch.items()})

    `split="eval"` draws prints, fonts and backdrops that `"train"` never shows. The look depends on `seed`,
    the epoch (`set_epoch`) and the sample's number alone, not on batch, order or worker; now and then the
    next sample of the folder stands in the back.

    size: (height, width) that divides the layers' own by a whole number; they are reduced to it before they
    are dressed (`rmgn.data.transform.shrink`), which costs a fraction. By default their own size.
    Raises `ValueError` for a folder without layers, an unknown split and a size that does not divide.
    """

    def __init__(
        self,
        folder: Path,
        seed: int = 0,
        flip: bool = True,
        assets: Path | None = None,
        split: str = "train",
        size: tuple[int, int] | None = None,
    ) -> None:
        self.files = layers.files(folder)
        if not self.files:
            raise ValueError(f"no layers in {folder}: make some with `rmgn generate`")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, not {split!r}")
        self._seed, self._flip, self._assets, self._split = seed, flip, assets, split
        self._epoch = 0
        self._scale = 1 if size is None else self._scale_to(size)

    def _scale_to(self, size: tuple[int, int]) -> int:
        height, width = layers.load(self.files[0]).parts.shape
        scale = max(1, height // size[0])
        if (size[0] * scale, size[1] * scale) != (height, width):
            raise ValueError(
                f"layers of {height}x{width} cannot be reduced to {size[0]}x{size[1]} by a whole number"
            )
        return scale

    def set_epoch(self, epoch: int) -> None:
        """Draw other looks from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        number = int(self.files[index].stem)  # not the index: in a part of the folder, it looks the same
        rng = np.random.default_rng([self._seed, self._epoch, number, SPLITS.index(self._split)])
        sample = layers.load(self.files[index])
        height, width = sample.parts.shape
        sample = shrink(sample, self._scale)
        if self._flip and rng.random() < 0.5:
            sample = mirror(sample)
        behind = None
        if rng.random() < _COMPANY:
            # The one sample that does depend on what is beside it.
            behind = layers.load(self.files[(index + 1) % len(self.files)])
        return tensors(
            sample, draw_look(rng, sample.meta, (height, width), stock(self._assets, self._split), behind)
        )

    @staticmethod
    def collate(items: list[Batch]) -> Batch:
        """Stack samples into a batch."""
        stacked: Batch = default_collate(items)
        return stacked
