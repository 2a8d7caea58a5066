"""Training, evaluation, export and the mirror know the same pictures, and say what they leave out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from engines import picture_files
from runtime import pictures

FORMATS = ("bmp", "jpeg", "JPG", "png", "tif", "tiff", "webp")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Plain pictures of 32x24, one of each format; two garments lack a mask, one is from a phone."""
    for folder in ("person", "garment", "garment_mask"):
        (tmp_path / folder).mkdir()
        for name in FORMATS:
            path = tmp_path / folder / f"{name.lower()}.{name if folder != 'garment_mask' else 'png'}"
            cv2.imwrite(str(path), np.full((32, 24, 3), 255, np.uint8))
    for name in ("tif.png", "webp.png"):
        (tmp_path / "garment_mask" / name).unlink()
    (tmp_path / "garment" / "phone.HEIC").write_bytes(b"a photo")
    for name in (".hidden.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "garment" / name).write_bytes(b"no picture")
    (tmp_path / "garment" / "folder.png").mkdir()
    return tmp_path


def test_pictures_of_a_folder(photos: Path) -> None:
    found, left_out = picture_files.find(photos / "garment")
    assert [path.suffix[1:] for path in found] == list(FORMATS)
    assert left_out == f"left out of {photos / 'garment'}: phone.HEIC; save as JPEG or PNG"
    assert picture_files.find(photos / "garment_mask")[1] == ""
    with pytest.raises(OSError, match="nowhere"):
        picture_files.find(photos / "nowhere")
    for number in range(6):
        (photos / "garment" / f"more{number}.gif").touch()
    assert "more4.gif and 2 more; save as" in picture_files.find(photos / "garment")[1]


def test_every_program_sees_the_same(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("torch", reason="evaluation and export need torch")
    from export.samples import read_samples
    from rmgn.data.layout import pictures as pictures_of_a_set

    names = [path.name for path in pictures.listing(photos / "garment")]
    assert pictures_of_a_set(photos / "garment") == names
    assert pictures_of_a_set(photos / "nowhere") == []
    assert caplog.text.count("phone.HEIC; save as JPEG or PNG") == 2
    caplog.clear()
    assert len(read_samples(photos, 64, 64, 99)) == len(FORMATS)
    assert "phone.HEIC; save as JPEG or PNG" in caplog.text
    assert f"garments without a mask in {photos / 'garment_mask'}, such as tif.tif" in caplog.text


def test_a_broken_picture_is_named(photos: Path) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    from engines import EngineError
    from export.samples import read_samples

    (photos / "person" / "bmp.bmp").write_bytes(b"")
    with pytest.raises(EngineError, match=r"bmp\.bmp: not a picture, or damaged"):
        read_samples(photos, 64, 64, 99)
