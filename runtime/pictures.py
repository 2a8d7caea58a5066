"""Read and write picture files, with errors that say what is wrong."""

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines import picture_files
from engines.program import InputError, warn_once
from engines.whole_file import check_writable, write_whole
from runtime.colour_profile import declared_size, orientation, to_srgb

Pixels = NDArray[np.uint8]
SUFFIXES = picture_files.SUFFIXES
SCREENSHOT = re.compile(r"mirror-\d{8}-\d{6}(-\d+)?")  # stems of the mirror's own pictures, never a garment
JPEG = b"\xff\xd8"  # the first bytes of such a file, which knows no transparency
LARGEST = 200_000_000  # pixels, which phones take; reading that many needs 3 GB
LONGEST = 1 << 15  # pixels of a side; around it goes a crop, of at most twice as many
# By orientation tag: whether the picture is to be mirrored, and by how many quarters it is then to be turned.
TURNS = {
    1: (False, 0), 2: (True, 0), 3: (False, 2), 4: (True, 2),
    5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1),
}  # fmt: skip
MOST_GREY = 0.2  # of a mask's pixels: outlines of fine lace, smoothed


class UnreachableError(InputError):
    """A file cannot be got at, as on a network drive that is away; nothing is known of what it holds."""


def read(path: Path, alpha: bool = False) -> Pixels:
    """A picture as uint8 [H, W, 3] BGR; with `alpha`, [H, W, 4] where the file has transparency.

    The camera's orientation tag is obeyed, and colours are those of sRGB. Raises UnreachableError for a
    missing file or one that cannot be read, another InputError for one that is no picture, or of more pixels
    than LARGEST or LONGEST.
    """
    try:
        if not path.is_file():
            raise UnreachableError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UnreachableError(f"cannot read {path}: {error.strerror}") from error
    _check_size(path, declared_size(data))  # before a small file fills the memory
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:  # more pixels than CV_IO_MAX_IMAGE_PIXELS, or a format that is switched off
        raise InputError(
            f"{path} is too large a picture for OpenCV, or of a format it does not read"
        ) from error
    if picture is None:
        raise InputError(f"{path} {unread(data[:12].tobytes())}")
    if picture.ndim != 3:  # .pfm, whatever is asked for
        raise InputError(f"{path} is of a format for numbers, not for pictures; save it as JPEG or PNG")
    colours = to_srgb(np.asarray(picture, np.uint8), data)
    if alpha and data[:2].tobytes() != JPEG:
        # IMREAD_UNCHANGED ignores the orientation tag, so it is asked for the transparency alone.
        raw = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        # In a bitmap the fourth byte may mean nothing: then all of it is 0.
        if raw is not None and raw.ndim == 3 and raw.shape[2] == 4 and raw[..., 3].any():
            if raw.dtype == np.uint16:
                raw = (raw // 257).astype(np.uint8)
            for turned in _turns(np.asarray(raw, np.uint8), orientation(data)):
                if turned.shape[:2] != picture.shape[:2]:
                    continue
                if cv2.absdiff(np.ascontiguousarray(turned[..., :3]), picture).max() <= 1:
                    return np.dstack([colours, turned[..., 3]])
            raise InputError(f"{path}: its transparency does not lie on its colours; save it as a plain PNG")
    return colours


def _check_size(path: Path, size: tuple[int, int] | None) -> None:
    """Raise InputError where a picture of this width and height is too large."""
    if size is not None and (size[0] * size[1] > LARGEST or max(size) > LONGEST):
        raise InputError(
            f"{path} is too large, {size[0]}x{size[1]}: make it smaller than {LARGEST // 10**6} megapixels "
            f"and {LONGEST} pixels a side"
        )


def unread(begin: bytes, video: bool = False) -> str:
    """What is wrong with a file that is no picture here, or no `video` either, by its first twelve bytes."""
    if not begin:
        return "is empty"
    if begin.startswith((JPEG, b"\x89PNG")) or (begin[:4] == b"RIFF" and begin[8:12] == b"WEBP"):
        return "is cut short or damaged; copy it again"
    if begin[4:8] == b"ftyp" and begin[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return "is a HEIC photo, whatever its name; export it as JPEG"
    # MP4, AVI, Matroska.
    if video and (begin[4:8] == b"ftyp" or begin.startswith((b"RIFF", b"\x1aE\xdf\xa3"))):
        return "is cut short or damaged; copy it again"
    if video:
        return "is not a video or picture that OpenCV can read; save it as MP4, JPEG or PNG"
    return "is not a picture that OpenCV can read; save it as JPEG or PNG"


def _turns(raw: Pixels, named: int) -> Iterator[Pixels]:
    """The picture turned as this orientation tag says, then by all others: not every decoder obeys each."""
    for tag in (named, *TURNS):
        mirrored, quarters = TURNS.get(tag, TURNS[1])
        yield np.rot90(raw[:, ::-1] if mirrored else raw, quarters)


def shrunk(picture: Pixels, side: int) -> Pixels:
    """The picture, uint8 [H, W] or [H, W, C], reduced so that its longer side is at most `side` pixels."""
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def fit_inside(picture: Pixels, width: int, height: int) -> Pixels:
    """The picture, uint8 [H, W, 3], as large as fits, in the middle of black, uint8 [height, width, 3].

    One that is a pixel too large is cut, since scaling would blur it.
    """
    if picture.shape[0] - height in (0, 1) and picture.shape[1] - width in (0, 1):
        return np.ascontiguousarray(picture[:height, :width])
    scale = min(width / picture.shape[1], height / picture.shape[0])
    columns, rows = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    above, left = (height - rows) // 2, (width - columns) // 2
    bars = (above, height - rows - above, left, width - columns - left)
    scaled = cv2.resize(picture, (columns, rows), interpolation=smooth)
    return np.asarray(cv2.copyMakeBorder(scaled, *bars, cv2.BORDER_CONSTANT), np.uint8)


def even_size(picture: Pixels) -> tuple[int, int]:
    """Width and height of a picture without its odd column and row, at least 2: what video formats take."""
    return max(2, picture.shape[1] // 2 * 2), max(2, picture.shape[0] // 2 * 2)


def on_white(picture: Pixels) -> Pixels:
    """The picture without its transparency, laid on white; uint8 [H, W, 3]."""
    if picture.shape[2] == 3:
        return picture
    alpha = picture[..., 3:].astype(np.uint16)  # whole numbers: photos of 24 megapixels come here
    return ((picture[..., :3] * alpha + (255 * (255 - alpha) + 127)) // 255).astype(np.uint8)


def read_on_white(path: Path) -> Pixels:
    """A picture as uint8 [H, W, 3] BGR, what is transparent laid on white. Raises InputError as `read`."""
    return on_white(read(path, alpha=True))


def read_mask(path: Path) -> Pixels:
    """A mask as uint8 [H, W], 255 inside and 0 outside. What is transparent is outside.

    Raises InputError, also where it looks like none.
    """
    picture = read(path, alpha=True)
    levels = picture[..., :3].max(axis=2)
    if picture.shape[2] == 4:
        levels = np.minimum(levels, picture[..., 3])
    between = np.count_nonzero((levels > 40) & (levels < 215)) / levels.size
    if between > MOST_GREY:
        raise InputError(f"{path} is no mask: that is white on the garment, and black elsewhere")
    if levels.min() >= 128:
        raise InputError(f"{path} is white everywhere: a mask is black beside the garment")
    if (levels[[0, 0, -1, -1], [0, -1, 0, -1]] >= 128).all():
        warn_once(f"{path} is white in all four corners: a mask is black there, are the two exchanged?")
    return np.where(levels >= 128, 255, 0).astype(np.uint8)


def write(path: Path, picture: Pixels) -> None:
    """Write a picture in the format its suffix names, whole or not at all. Raises InputError."""
    picture_files.check_suffix(path)
    try:
        written, data = cv2.imencode(path.suffix, picture)
    except cv2.error:
        written = False
    if not written:  # WebP has at most 16383 pixels a side, JPEG 65535, others one channel
        height, width = picture.shape[:2]
        raise InputError(f"{path}: OpenCV cannot write {width}x{height} pixels as {path.suffix}; take .png")
    try:
        write_whole(path, data.tobytes())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def check_picture(path: Path) -> None:
    """Raise InputError where no picture can be written to `path`."""
    picture_files.check_suffix(path)
    check_writable(path)


def check_results(out: Path, many: bool) -> None:
    """Raise InputError where no picture can be written to `out` or, if there are many, none into it."""
    if not many:
        check_picture(out)
    elif not out.is_dir():
        if out.exists():
            raise InputError(f"{out} is a file; many results need a folder")
        if out.suffix.lower() in SUFFIXES:
            raise InputError(f"{out} has a picture's name; many results need a folder")


def make_folder(folder: Path) -> None:
    """Make a folder, with those around it, unless it is there. Raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error


def listing(folder: Path, may_be_empty: bool = False) -> list[Path]:
    """The picture files of a folder, by name, without hidden ones.

    Pictures in other formats are told in the log. Raises InputError where there is no such folder, and
    where it holds no pictures, unless it may be empty.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    try:
        found, left_out = picture_files.find(folder)
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    if not found and not may_be_empty:
        raise InputError(left_out or f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    warn_once(left_out)
    return found
