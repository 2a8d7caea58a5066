"""Pictures to calibrate and to compare engines with: generated people, or a folder of photos."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from torch import Tensor

from engines import EngineError, picture_files
from rmgn.data import read
from rmgn.data.people import layers

Sample = dict[str, Tensor]  # person, garment [1, 3, H, W] in [-1, 1]; garment_mask [1, 1, H, W] in {0, 1}
MASKS = ("garment_mask", "mask")
SHIPPED = Path(__file__).resolve().parent.parent / "models"

log = logging.getLogger(__name__)


def read_samples(folder: Path, height: int, width: int, count: int) -> list[Sample]:
    """Up to `count` samples at height x width, spread evenly over the folder, in garments of others.

    folder: layers made by `rmgn generate`, or folders of pictures `person/`, `garment/` and
    `garment_mask/` (or `mask/`) in which garment and mask share names, as `--as pictures` writes them.
    The log tells what is left out. Raises EngineError where it holds neither, or a picture cannot be read.
    """
    if not folder.is_dir():
        raise EngineError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}")
    if layers.present(folder):
        return list(_layers(folder, height, width, count))
    masks = next((folder / name for name in MASKS if (folder / name).is_dir()), None)
    if masks is None or not all((folder / name).is_dir() for name in ("person", "garment")):
        raise EngineError(
            f"{folder} holds neither layers (*.zip of rmgn.data.generate) nor the folders person, "
            "garment and garment_mask"
        )
    try:
        return list(_photos(folder, masks, height, width, count))
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot read the pictures in {folder}: {error}") from error


def shipped_samples(height: int, width: int, count: int) -> list[Sample]:
    """Up to `count` frames of the clip that comes with the project, each in another of its garments.

    Those are the pictures beside it that have their mask as transparency.

    Without the checkout's `models/` there are none. Raises EngineError where a picture cannot be read.
    """
    clip = cv2.VideoCapture(picture_files.opencv_name(SHIPPED / "clip.mp4"))
    garments = sorted((SHIPPED / "garments").glob("*.webp"))
    cut_out = [(garment, levels) for garment in garments if (levels := _alpha(garment)) is not None]
    samples: list[Sample] = []
    for index in _spread(int(clip.get(cv2.CAP_PROP_FRAME_COUNT)), count) if cut_out else []:
        clip.set(cv2.CAP_PROP_POS_FRAMES, index)
        got, frame = clip.read()
        if not got:
            raise EngineError(f"{SHIPPED / 'clip.mp4'} is damaged: frame {index} cannot be read")
        garment, levels = cut_out[len(samples) % len(cut_out)]
        mask = _scaled(levels, height, width)
        samples.append(
            {
                "person": _as_input(frame[..., ::-1], height, width),
                "garment": _as_input(read.picture(garment), height, width),
                "garment_mask": (mask[None, None] > 127).float(),
            }
        )
    return samples


def _alpha(garment: Path) -> "cv2.typing.MatLike | None":
    """Transparency of a garment's picture [H, W], uint8; None of a photo without, as of a shop's own."""
    picture = picture_files.decoded(garment)
    if picture is None:
        raise EngineError(f"{garment} is damaged: it cannot be read")
    return picture[..., 3] if picture.ndim == 3 and picture.shape[2] == 4 else None


def _photos(folder: Path, masks: Path, height: int, width: int, count: int) -> Iterator[Sample]:
    people, garments = (picture_files.listing(folder / name) for name in ("person", "garment"))
    by_name = {mask.stem: mask for mask in picture_files.listing(masks)}
    pairs = [(garment, by_name[garment.stem]) for garment in garments if garment.stem in by_name]
    if not people or not pairs:
        raise EngineError(f"{folder} holds no person, or no garment with a mask of the same name")
    if len(pairs) < len(garments):
        bare = next(garment for garment in garments if garment.stem not in by_name)
        log.warning("left out of %s: garments without a mask in %s, such as %s", folder, masks, bare.name)
    for index in _spread(len(people), count):
        garment, mask = pairs[(index + 1) % len(pairs)]
        yield {
            "person": _as_input(read.picture(people[index]), height, width),
            "garment": _as_input(read.picture(garment), height, width),
            "garment_mask": (_scaled(read.mask_levels(mask), height, width)[None, None] > 127).float(),
        }


def _layers(folder: Path, height: int, width: int, count: int) -> Iterator[Sample]:
    try:
        from rmgn.data.dress import dress
        from rmgn.data.generated import GeneratedPeople
    except ImportError as error:
        raise EngineError(
            f"{folder} holds layers, which need {error.name} (pip install 'rmgn[train]')"
        ) from None
    try:
        people = GeneratedPeople(folder, flip=False)
        for index in _spread(len(people), count):
            dressed = dress(people.collate([people[index]]), noise_seed=index)
            yield {  # the person wears the second garment
                "person": _resized(dressed.person[:, 1], height, width),
                "garment": _resized(dressed.garment[:, 0], height, width),
                "garment_mask": (_resized(dressed.garment_mask[:, 0].float(), height, width) > 0.5).float(),
            }
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"cannot read the layers in {folder}: {error}") from error


def _spread(length: int, count: int) -> list[int]:
    return [index * length // min(count, length) for index in range(min(count, length))]


def _as_input(rgb: cv2.typing.MatLike, height: int, width: int) -> Tensor:
    return (_scaled(rgb, height, width).permute(2, 0, 1)[None] / 127.5 - 1).contiguous()


def _scaled(picture: cv2.typing.MatLike, height: int, width: int) -> Tensor:
    return torch.from_numpy(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)).float()


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    size = (height, width)
    if picture.shape[2:] == size:
        return picture.float().contiguous()
    return torch.nn.functional.interpolate(picture.float(), size, mode="bilinear", antialias=True)
