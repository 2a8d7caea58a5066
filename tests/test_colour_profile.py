"""Pictures in other colour spaces, as phones and cameras take them, against the spaces' own equations."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from runtime import pictures

# Columns: the primaries of Adobe RGB (1998) and of sRGB in XYZ, as their profiles have them, adapted to D50.
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
GAMMA = 2.2
COLOURS = [(200, 40, 40), (60, 150, 60), (40, 60, 200), (128, 128, 128), (230, 140, 60)]


def adobe_profile() -> bytes:
    """A matrix profile of ICC's version 2: three primaries and a gamma."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(GAMMA * 256)) + bytes(2)
    name = b"another RGB\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249),
        **{b"%cXYZ" % c: b"XYZ " + bytes(4) + fixed(*ADOBE[:, k]) for k, c in enumerate(b"rgb")},
        **{b"%cTRC" % c: curve for c in b"rgb"},
    }
    table, body = struct.pack(">I", len(tags)), b""
    for key, tag in tags.items():
        table += key + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    head = struct.pack(">I4xI4s4s4s", 132 + len(table) - 4 + len(body), 2 << 24, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + body


def wanted(colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """What is meant by an Adobe RGB colour, in sRGB."""
    linear = np.linalg.solve(SRGB, ADOBE @ (np.array(colour) / 255) ** GAMMA).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def save(path: Path, colour: tuple[int, int, int], profile: bytes | None) -> None:
    mode = "RGBA" if path.suffix == ".png" else "RGB"
    Image.new(mode, (64, 48), colour).save(path, icc_profile=profile, quality=100, subsampling=0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_another_colour_space_becomes_srgb(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    for colour in COLOURS:
        save(path, colour, adobe_profile())
        read = pictures.read(path, alpha=True)[24, 32, 2::-1]
        np.testing.assert_allclose(read, wanted(colour), atol=5 if suffix == ".webp" else 3)


@pytest.mark.filterwarnings("error")
def test_photos_larger_than_pil_decodes_have_their_colours(tmp_path: Path) -> None:
    """PIL would warn of 90 megapixels, and refuse twice as many."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (20_000, 4_500), COLOURS[0]).save(path, icc_profile=adobe_profile())
    np.testing.assert_allclose(pictures.read(path)[24, 32, ::-1], wanted(COLOURS[0]), atol=5)


def test_colours_of_srgb_and_of_damaged_profiles_stay(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = io.BytesIO()
    Image.new("L", (64, 48), 90).save(grey, "PNG", icc_profile=adobe_profile())
    (tmp_path / "grey.png").write_bytes(grey.getvalue())
    for profile in (srgb, b"no profile", adobe_profile()[:200], None):
        save(tmp_path / "photo.png", (200, 40, 41), profile)
        assert pictures.read(tmp_path / "photo.png")[24, 32].tolist() == [41, 40, 200]
    assert np.ptp(pictures.read(tmp_path / "grey.png")) <= 2


def test_people_cut_out_stand_on_white(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 4), np.uint8)
    picture[:, :32] = (30, 90, 150, 255)
    pictures.write(tmp_path / "person.png", picture)
    read = pictures.read_on_white(tmp_path / "person.png")
    assert (read[:, :32] == (30, 90, 150)).all()
    assert (read[:, 32:] == 255).all()
