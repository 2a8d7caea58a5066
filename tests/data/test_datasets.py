"""Published data sets behind one sample type: read back from folders in their layouts, and real photos."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader

from engines.pair_lists import read_pairs
from rmgn.data import check, read, sample
from rmgn.data.augment import Augment
from rmgn.data.datasets import FolderDataset, TryOnDataset, _require_whole_people, open_dataset
from rmgn.data.layout import Entry, NoSuchPairsError, exchange
from rmgn.data.people.layers import LABELS
from rmgn.data.plain import Plain
from rmgn.data.sample import Label, Sample, collate, dense_one_hot, mask_of, pose_maps

Published = Callable[[str], Path]
# Where a layout's training samples are those of the generated pictures, and how much its coding costs.
TRAINING = {"viton": 6, "viton_hd": 6, "mpv": 4, "dresscode": 6}


def known(part: Tensor | None) -> Tensor:
    """A part that the sample must have."""
    assert part is not None
    return part


def own_pictures(generated: Path, out: Path) -> None:
    """Generated pictures as a user's own: without truth or a list."""
    for name in ("person", "garment", "garment_mask"):
        shutil.copytree(generated / name, out / name)


def _same_tensors(a: Sample, b: Sample) -> None:
    for f in fields(Sample):
        left, right = getattr(a, f.name), getattr(b, f.name)
        assert torch.equal(left, right) if isinstance(left, Tensor) else left == right, f.name


@pytest.mark.parametrize(("layout", "count"), TRAINING.items())
def test_every_layout_gives_the_same_samples(
    layout: str, count: int, published: Published, pictures_folder: Path
) -> None:
    """What was written in a layout's own names, numbers and codings comes back as what it was made from."""
    data, truth = open_dataset(published(layout)), open_dataset(pictures_folder)
    assert len(data) == count
    larger = layout == "viton_hd"  # twice as large, and JPEG once more
    for index in range(count):
        got, wanted = data[index], truth[index]
        assert got.paired
        assert (got.person - wanted.person).abs().mean() < (0.03 if larger else 1e-6)
        assert (got.garment - wanted.garment).abs().mean() < (0.03 if larger else 1e-6)
        assert torch.equal(got.garment_mask, wanted.garment_mask)
        assert torch.equal(known(got.parse), known(wanted.parse))
        torch.testing.assert_close(known(got.keypoints), known(wanted.keypoints), atol=1e-3, rtol=1e-5)
        right = (known(got.dense) == known(wanted.dense)).float().mean()
        assert right > (0.98 if larger else 0.9999), "body parts from a JPEG's colours err at edges alone"


def test_types_and_ranges(published: Published) -> None:
    got = open_dataset(published("viton"), others=3)[0]
    assert got.person.shape == got.garment.shape == (3, 256, 192)
    assert got.person.min() >= -1
    assert got.person.max() <= 1
    assert got.person.max() - got.person.min() > 0.5
    assert ((got.garment_mask == 0) | (got.garment_mask == 1)).all()
    assert known(got.parse).dtype == torch.uint8
    assert known(got.parse).max() < len(Label)
    assert known(got.other_garments).shape == (3, 3, 256, 192)
    assert got.other_persons is None
    assert torch.equal(known(got.worn_mask), mask_of(known(got.parse), [Label.UPPER]))


@pytest.mark.parametrize("layout", ["viton", "viton_hd", "dresscode", "mpv"])
def test_left_is_left_in_labels_parts_and_points(layout: str, published: Published) -> None:
    """Bare arms and elbows of a side lie on that side's body parts."""
    sides = [
        (sample.LEFT_ELBOW, Label.LEFT_ARM, (4, 15, 17, 19, 21)),
        (sample.RIGHT_ELBOW, Label.RIGHT_ARM, (3, 16, 18, 20, 22)),
    ]
    data = open_dataset(published(layout))
    arms = elbows = 0
    for index in range(len(data)):
        got = data[index]
        dense, parse, points = known(got.dense), known(got.parse), known(got.keypoints)
        for elbow, label, parts in sides:
            own = torch.isin(dense, torch.tensor(parts, dtype=torch.uint8))
            bare = (parse == label) & (dense > 0)
            if bare.sum() > 50:
                assert own[bare].float().mean() > 0.8
                arms += 1
            x, y, seen = (int(value) for value in points[elbow])
            around = own[max(y - 4, 0) : y + 5, max(x - 4, 0) : x + 5].float()
            if seen and dense[y, x] > 2:
                assert around.mean() > 0.5
                elbows += 1
    assert arms >= 2
    assert elbows >= 2


def _names(data: TryOnDataset) -> list[tuple[str, str]]:
    assert isinstance(data, FolderDataset)
    return [(entry.person_name, entry.garment_name) for entry in data.entries]


def test_garments_of_those_held_out_dress_nobody_in_training(published: Published) -> None:
    viton = published("viton")
    data = open_dataset(viton, others=2, held_out=3, seed=1)
    everything = [known(open_dataset(viton)[index].garment) for index in range(6)]
    drawn = set()
    for epoch in range(6):
        data.set_epoch(epoch)
        for index in range(3):
            for garment in known(data[index].other_garments):
                (which,) = [k for k, other in enumerate(everything) if torch.equal(garment, other)]
                drawn.add(which)
                assert which != index
    assert drawn == {0, 1, 2}
    with pytest.raises(ValueError, match="3 other garments wanted of a set of 3"):
        open_dataset(viton, others=3, held_out=3)


def test_names_in_lists_may_hold_blanks_between_tabs(tmp_path: Path) -> None:
    lines = ["my photo.jpg\tred shirt.jpg\t0", "b.jpg c.jpg", "", "d.jpg\t\te.jpg", "f.jpg g.jpg\t"]
    (tmp_path / "pairs.txt").write_text("\ufeff" + "\n".join(lines))  # as Windows writes it
    assert read_pairs(tmp_path / "pairs.txt") == [
        ("my photo.jpg", "red shirt.jpg"),
        ("b.jpg", "c.jpg"),
        ("d.jpg", "e.jpg"),
        ("f.jpg", "g.jpg"),
    ]
    for line in ("my photo.jpg shirt.jpg", "a.jpg\tb.jpg\tc.WEBP"):
        (tmp_path / "pairs.txt").write_text(f"a.jpg b.jpg\n{line}\n")
        with pytest.raises(
            ValueError, match=r"pairs.txt, line 2: .* where a name has spaces, put a tab between"
        ):
            read_pairs(tmp_path / "pairs.txt")


def test_a_mask_without_white_is_refused(tmp_path: Path) -> None:
    """Stored as 0 and 1, or in a PNG's transparency."""
    for name, pixels in (("ones", np.ones((8, 6), np.uint8)), ("clear", np.zeros((8, 6, 4), np.uint8))):
        pixels[..., -1:] = 1 if name == "ones" else 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
        with pytest.raises(ValueError, match=rf"{name}\.png: no garment in this mask: .*highest is [01]"):
            read.mask(tmp_path / f"{name}.png", (8, 6))


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_white_mask_lies_in_its_transparency(depth: type, tmp_path: Path) -> None:
    """As background removers export it."""
    full = np.iinfo(depth).max
    pixels: np.ndarray = np.full((8, 6, 4), full, depth)
    pixels[:, :2, 3] = 0
    cv2.imwrite(str(tmp_path / "cut.png"), pixels)
    expected = torch.ones(1, 8, 6)
    expected[..., :2] = 0
    assert torch.equal(read.mask(tmp_path / "cut.png", (8, 6)), expected)
    pixels[..., 3] = full
    cv2.imwrite(str(tmp_path / "whole.png"), pixels)
    assert read.mask(tmp_path / "whole.png", (8, 6)).all()


def test_masks_that_lie_in_their_transparency_pass_the_check(
    pictures_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_pictures(pictures_folder, tmp_path)
    for path in (tmp_path / "garment_mask").iterdir():
        level = read.picture(path)[:, :, :1]
        cv2.imwrite(str(path), np.concatenate([np.full_like(level, 255).repeat(3, axis=2), level], axis=2))
    assert check.main([str(tmp_path)]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_upright_pictures(suffix: str, orientation: int, tmp_path: Path) -> None:
    """Which key points are given in."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    Image.new("RGB", (40, 24)).save(path, exif=exif)
    assert read.picture_size(path) == read.picture(path).shape[:2]


def test_nobody_is_in_training_and_in_validation(pictures_folder: Path) -> None:
    count = len(open_dataset(pictures_folder))
    assert len(open_dataset(pictures_folder, held_out=2)) == count
    with pytest.raises(ValueError, match=r"held_out 3 would show 0\d+ in training and .*: hold out 4$"):
        open_dataset(pictures_folder, held_out=3)


def test_nobody_is_on_both_sides_of_a_list_that_is_not_grouped() -> None:
    class Letters(Plain):
        def __init__(self) -> None:
            pass

        def subject(self, person: str) -> str:
            return person[0]

    def entries(names: str) -> list[Entry]:
        return [Entry(name, "", Path(), Path(), Path()) for name in names.split()]

    _require_whole_people(Letters(), entries("a1 a2 b1 b2 c1 c2"), 4)
    with pytest.raises(ValueError, match=r"held_out 1 would show a in .*: group its list by person"):
        _require_whole_people(Letters(), entries("a1 a2 b1 b2 c1 a3"), 5)
    with pytest.raises(ValueError, match=r"held_out 2 would show b in .*: hold out 4"):
        _require_whole_people(Letters(), entries("a1 a2 b1 c1 b2 c2"), 4)


@pytest.mark.parametrize("suffix", [".PNG", ".Png"])
def test_suffixes_of_masks_are_found_in_any_case(suffix: str, tmp_path: Path) -> None:
    for folder, name in (("person", "p.jpg"), ("garment", "g.JPG"), ("garment_mask", f"g{suffix}")):
        (tmp_path / folder).mkdir()
        Image.new("L", (24, 32), 255).save(tmp_path / folder / name)
    (tmp_path / "pairs.txt").write_text("p.jpg g.JPG")
    assert open_dataset(tmp_path, "test", "unpaired", (32, 24))[0].garment_mask.all()


def test_lists_of_pairs(published: Published, tmp_path: Path) -> None:
    viton = published("viton")
    listed = open_dataset(viton, "test", "unpaired")
    assert _names(listed) == [("000000_0.jpg", "000003_1.jpg"), ("000002_0.jpg", "000001_1.jpg")]
    assert not listed[0].paired
    assert torch.equal(listed[0].garment, open_dataset(viton, "test")[3].garment)
    # Without a list garments are passed around; nobody gets the own one.
    around = _names(open_dataset(viton, "train", "unpaired"))
    assert all(person[:6] != garment[:6] for person, garment in around)
    assert len({garment for _, garment in around}) == 6
    for layout in ("viton_hd", "dresscode"):
        others = _names(open_dataset(published(layout), "train", "unpaired"))
        assert len(others) == 6
        assert all(person[:6] != garment[:6] for person, garment in others), layout
    # A list of one's own; it is paired where all of its persons wear their garments.
    own = tmp_path / "own.txt"
    own.write_text("000001_0.jpg 000001_1.jpg\n\n000004_0.jpg 000004_1.jpg\n")
    assert open_dataset(viton, "train", own)[1].paired
    own.write_text("000001_0.jpg 000001_1.jpg\n000004_0.jpg 000002_1.jpg\n")
    assert not open_dataset(viton, "train", own)[0].paired

    hd = _names(open_dataset(published("viton_hd"), "test", "unpaired"))
    assert hd[0] == ("00000_00.jpg", "00001_00.jpg")
    assert _names(open_dataset(published("viton_hd"), "test"))[0] == ("00000_00.jpg", "00000_00.jpg")
    dresscode = _names(open_dataset(published("dresscode"), "test", "unpaired"))
    assert dresscode[0] == ("048390_0.jpg", "048391_1.jpg")
    # With a list of one's own it needs none of its own.
    listless = shutil.copytree(published("dresscode"), tmp_path / "listless")
    (listless / "upper_body" / "test_pairs_paired.txt").unlink()
    own.write_text(" ".join(dresscode[0]) + "\n")
    assert _names(open_dataset(listless, "test", own)) == [dresscode[0]]
    # Often a list names each person with several garments. Then the person is one still.
    again = shutil.copytree(published("viton_hd"), tmp_path / "hd")
    with (again / "test_pairs.txt").open("a") as file:
        file.write("00000_00.jpg 00002_00.jpg\n")
    assert len(open_dataset(again, "test", "unpaired")) == len(hd) + 1
    assert len(open_dataset(again, "test")) == len(hd)
    # A list beside PF-AFN's folder is its own, unless it names persons of another set for training.
    shutil.copytree(published("viton"), tmp_path / "both", dirs_exist_ok=True)
    (tmp_path / "both" / "train_pairs.txt").write_text("00000_00.jpg 00000_00.jpg\n")
    assert _names(open_dataset(tmp_path / "both")) == _names(open_dataset(viton))

    release = open_dataset(published("rmgn_release"), "test", "unpaired")
    assert _names(release)[0] == ("000000_0.jpg", "new/000003_1.jpg")
    assert torch.equal(release[0].garment_mask, listed[0].garment_mask)


def test_garments_are_those_of_people_half_the_list_away() -> None:
    worn = [(str(k), garment) for k, garment in enumerate("abcabd")]
    assert exchange(worn) == [("0", "b"), ("1", "d"), ("2", "d"), ("3", "b"), ("4", "c"), ("5", "c")]
    with pytest.raises(NoSuchPairsError, match="at least two garments"):
        exchange([("0", "a"), ("1", "a")])


def test_a_list_in_pf_afns_folder_says_who_wears_what(published: Published, tmp_path: Path) -> None:
    viton = shutil.copytree(published("viton"), tmp_path / "viton")
    for split, name in (("train", "train_pairs.txt"), ("test", "test_pairs_same.txt")):
        pairs = [("000002_0.jpg", "000004_1.jpg"), ("000001_0.jpg", "000000_1.jpg")]
        (viton / f"VITON_{'traindata' if split == 'train' else 'test'}" / name).write_text(
            "".join(f"{person} {garment}\n" for person, garment in pairs)
        )
        assert _names(open_dataset(viton, split)) == pairs


# What the sets' documentation, and ours, names as another place or form of the same: from, to.
PLACES: dict[str, tuple[str, str, str]] = {
    "MPV's second list": ("mpv", "all_poseA_poseB_clothes.txt", "all_poseA_poseB_clothes_0607.txt"),
    "MPV's second pictures": ("mpv", "MPV_192_256", "all"),
    "VITON-HD's first parse maps": ("viton_hd", "train/image-parse-v3", "train/image-parse"),
    "VITON-HD's first key points": ("viton_hd", "train/openpose_json", "train/openpose-json"),
    "DressCode's cloth_mask": ("dresscode", "upper_body/masks", "upper_body/cloth_mask"),
    "DressCode's edge": ("dresscode", "upper_body/masks", "upper_body/edge"),
    "own masks": ("plain", "garment_mask", "mask"),
}


@pytest.mark.parametrize("place", PLACES)
def test_files_in_another_place_are_the_same_sample(
    place: str, published: Published, pictures_folder: Path, tmp_path: Path
) -> None:
    layout, before, after = PLACES[place]
    folder = tmp_path / "set"
    if layout == "plain":
        own_pictures(pictures_folder, folder)
    else:
        shutil.copytree(published(layout), folder)
    split, pairs = ("test", "unpaired") if layout == "plain" else ("train", "paired")
    expected = open_dataset(folder, split, pairs)[1]
    (folder / before).rename(folder / after)
    _same_tensors(open_dataset(folder, split, pairs)[1], expected)


def test_dense_pose_of_other_programs_is_the_same(published: Published, tmp_path: Path) -> None:
    """As NumPy arrays and as plain numbers, where MPV has coloured pictures."""
    folder = shutil.copytree(published("mpv"), tmp_path / "mpv")
    expected = open_dataset(folder)[0]
    (file,) = (folder / "all_densepose").glob("SC0*/*_IUV.png")
    parts = read.dense_parts(file)
    name = str(file).removesuffix("_IUV.png")
    file.unlink()
    cv2.imwrite(f"{name}.png", parts)
    _same_tensors(open_dataset(folder)[0], expected)
    Path(f"{name}.png").unlink()
    np.save(f"{name}.npy", parts)
    _same_tensors(open_dataset(folder)[0], expected)


def test_mpv_unpaired_by_its_list(published: Published, tmp_path: Path) -> None:
    folder = shutil.copytree(published("mpv"), tmp_path / "mpv")
    test = _names(open_dataset(folder, "test"))
    crossed = [(test[0][0], test[1][1])]
    (folder / "test_unpaired_images.txt").write_text(f"{crossed[0][0]} {crossed[0][1]}\n")
    assert _names(open_dataset(folder, "test", "unpaired")) == crossed


def test_both_persons_of_a_line_wear_its_garment(published: Published, tmp_path: Path) -> None:
    folder = shutil.copytree(published("mpv"), tmp_path / "mpv")
    rows = (folder / "all_poseA_poseB_clothes.txt").read_text().splitlines()
    person, back, garment, split = rows[0].split("\t")
    second = person.replace("person_half_front", "person_whole_front")
    shutil.copy(folder / "MPV_192_256" / person, folder / "MPV_192_256" / second)
    rows[0] = "\t".join([person, second, garment, split])
    (folder / "all_poseA_poseB_clothes.txt").write_text("\n".join(rows))
    assert _names(open_dataset(folder))[:2] == [(person, garment), (second, garment)]
    assert "back" in back


def test_mpv_keeps_front_views_and_a_list_chooses_among_them(published: Published, tmp_path: Path) -> None:
    folder = published("mpv")
    train = _names(open_dataset(folder))
    assert len(train) == 4
    assert all("front" in person for person, _ in train)
    assert len(open_dataset(folder, "test")) == 2
    chosen = tmp_path / "mpv_sub.txt"
    chosen.write_text(f"{train[2][0]}\n{train[0][0]} anything else\n")
    assert _names(open_dataset(folder, subset=chosen)) == [train[0], train[2]]
    chosen.write_text(f"{train[2][0]}\nnobody.jpg\n")
    with pytest.raises(ValueError, match=r"1 of 2 persons are not in this split, such as nobody\.jpg"):
        open_dataset(folder, subset=chosen)


def test_a_top_under_an_open_one_is_no_garment(pictures_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures_folder, tmp_path / "pictures")
    file = next((folder / "parse").glob("*"))
    numbers = read.numbers(file)
    numbers[:, :96][numbers[:, :96] == LABELS["garment"]] = LABELS["inner"]
    cv2.imwrite(str(file), numbers)
    data = open_dataset(folder, "test")
    got = data[[name for name, _ in _names(data)].index(f"{file.stem}.jpg")]
    upper, worn = mask_of(known(got.parse), [Label.UPPER])[0], known(got.worn_mask)[0]
    assert upper[:, :96].any()
    assert not worn[:, :96].any()
    assert torch.equal(worn[:, 96:], upper[:, 96:])


def test_generated_sets_know_the_answer(layers_folder: Path, pictures_folder: Path) -> None:
    """True flow leads from the worn clothes into the garment; the other garment comes with its picture."""
    for folder in (pictures_folder, layers_folder):
        data = open_dataset(folder, "test", others=2)
        assert len(data) == 6
        for index in (0, 3):
            got = data[index]
            seen = known(got.visible) > 0
            others = known(got.other_garments)
            grid = known(got.flow).permute(1, 2, 0)[None]
            mask = torch.nn.functional.grid_sample(got.garment_mask[None], grid, align_corners=False)[0]
            assert mask[seen].mean() > 0.98
            assert (known(got.worn_mask)[seen] > 0).float().mean() > 0.95
            twin = data[index ^ 1]
            if folder is pictures_folder:
                assert torch.equal(known(got.other_persons)[0], twin.person)
                assert torch.equal(others[0], twin.garment)
            assert not torch.equal(others[1], others[0])
            unpaired = open_dataset(folder, "test", "unpaired", others=1)[index]
            assert unpaired.flow is None
            assert torch.equal(unpaired.garment, known(unpaired.other_garments)[0])
            assert unpaired.person_name != unpaired.garment_name


def test_pictures_and_layers_agree(layers_folder: Path, pictures_folder: Path) -> None:
    """Both readers of the generated set see the same people: all but the fabrics is equal."""
    layers, pictures = open_dataset(layers_folder, "test"), open_dataset(pictures_folder)
    for index in range(6):
        a, b = layers[index], pictures[index]
        for name in ("parse", "dense", "garment_mask"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        torch.testing.assert_close(a.keypoints, b.keypoints)
        both = ((known(a.visible) > 0) & (known(b.visible) > 0))[0]
        assert (known(a.flow) - known(b.flow))[:, both].abs().max() < 1e-3


def test_draws_depend_on_seed_epoch_and_index_alone(published: Published) -> None:
    def loaded(workers: int, epoch: int, seed: int = 5) -> list[Sample]:
        data = open_dataset(published("viton"), others=2, augment=Augment(), seed=seed)
        data.set_epoch(epoch)
        loader = DataLoader(data, batch_size=3, num_workers=workers, collate_fn=collate)
        return list(loader)

    alone, with_workers, later, otherwise = loaded(0, 1), loaded(1, 1), loaded(0, 2), loaded(0, 1, seed=6)
    for a, b in zip(alone, with_workers, strict=True):
        _same_tensors(a, b)
    for other in (later, otherwise):
        assert not torch.equal(known(alone[0].other_garments), known(other[0].other_garments))
        assert not torch.equal(alone[0].person, other[0].person)
    assert alone[0].person.shape == (3, 3, 256, 192)
    assert alone[0].person_name == ("000000_0.jpg", "000001_0.jpg", "000002_0.jpg")


def test_other_garments_are_never_the_own_one(published: Published) -> None:
    data = open_dataset(published("viton"), others=5)
    for index in range(len(data)):
        got = data[index]
        others = known(got.other_garments)
        assert all(not torch.equal(other, got.garment) for other in others)
        assert len({float(other.sum()) for other in others}) == 5
    with pytest.raises(ValueError, match="6 other garments wanted of a set of 6"):
        open_dataset(published("viton"), others=6)


def test_layers_are_dressed_anew_by_seed_and_epoch(layers_folder: Path) -> None:
    """In training half of them are mirrored, and nobody's other garments are the own one."""
    data, other = (open_dataset(layers_folder, others=3, seed=seed) for seed in (0, 1))
    persons, mirrored = [], []
    plain = known(open_dataset(layers_folder, "test")[0].dense)
    for epoch in range(12):
        data.set_epoch(epoch)
        got = data[0]
        persons.append(got.person)
        mirrored.append(not torch.equal(known(got.dense) > 0, plain > 0))
        assert all(not torch.equal(garment, got.garment) for garment in known(got.other_garments))
    assert not torch.equal(persons[0], persons[1])
    assert not torch.equal(persons[0], other[0].person)
    assert 1 < sum(mirrored) < 11


def test_other_sizes(pictures_folder: Path) -> None:
    """A smaller sample's flow still points to the same spots, its points to the same places."""
    full, half = open_dataset(pictures_folder)[2], open_dataset(pictures_folder, size=(128, 96))[2]
    assert half.person.shape == (3, 128, 96)
    torch.testing.assert_close(known(half.keypoints)[:, :2] * 2, known(full.keypoints)[:, :2])
    seen = (known(half.visible)[0] > 0) & (known(full.visible)[0, ::2, ::2] > 0)
    assert seen.sum() > 1000
    assert (known(half.flow) - known(full.flow)[:, ::2, ::2])[:, seen].abs().mean() < 0.02
    assert torch.equal(known(half.parse), known(full.parse)[1::2, 1::2])


def test_layers_are_dressed_at_the_size_asked_for(layers_folder: Path) -> None:
    full, half = (open_dataset(layers_folder, "test", size=size)[1] for size in ((256, 192), (128, 96)))
    assert half.person.shape == (3, 128, 96)
    double = known(half.keypoints) * torch.tensor([2.0, 2.0, 1.0])  # rounded to 0.01 when layers shrink
    torch.testing.assert_close(double, known(full.keypoints), atol=0.03, rtol=0)
    with pytest.raises(ValueError, match="cannot be reduced to 200x150"):
        open_dataset(layers_folder, size=(200, 150))


def test_maps_for_the_networks() -> None:
    for x, y in ((60.0, 100.0), (60.5, 100.5), (60.9, 100.2)):
        points = torch.zeros(2, 18, 3)
        points[1, 4] = torch.tensor([x, y, 0.7])
        maps = pose_maps(points, (256, 192))
        assert (maps[0] == -1).all()
        drawn = Image.new("L", (192, 256))
        ImageDraw.Draw(drawn).rectangle((x - 5, y - 5, x + 5, y + 5), 1)  # what PF-AFN draws
        np.testing.assert_array_equal(maps[1, 4].numpy() > 0, np.asarray(drawn) > 0)
        assert (maps[1, 4] > 0).sum() == 121
    parts = torch.randint(0, 25, (2, 9, 7), dtype=torch.uint8)
    assert torch.equal(dense_one_hot(parts).argmax(1).byte(), parts)
    assert torch.equal(mask_of(parts % 17, list(Label)), torch.ones(2, 1, 9, 7))


def test_batches_do_not_mix_what_differs(published: Published) -> None:
    with_parse = open_dataset(published("viton"))[0]
    without = open_dataset(published("viton"), "test")[0]
    with pytest.raises(ValueError, match="some samples of a batch have parse, others do not"):
        collate([with_parse, without])
    unpaired = open_dataset(published("viton"), "test", "unpaired")[0]
    with pytest.raises(ValueError, match="paired and unpaired"):
        collate([without, unpaired])


@pytest.mark.parametrize("layout", [*TRAINING, "rmgn_release"])
def test_sound_folders_pass_the_check(
    layout: str, published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main([str(published(layout))]) == 0, capsys.readouterr().out
    assert "0 problems" in capsys.readouterr().out
    if layout == "dresscode":
        assert check.main([str(published(layout) / "upper_body")]) == 0, capsys.readouterr().out


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a picture cut short": (
        "train_img/000001_0.jpg",
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        "train_img/000001_0.jpg: not a picture, or damaged",
    ),
    "no picture": ("train_color/000002_1.jpg", Path.unlink, "train_color/000002_1.jpg: no such file"),
    "an empty mask": (
        "train_edge/000000_1.jpg",
        lambda path: cv2.imwrite(str(path), np.zeros((256, 192), np.uint8)),
        "train_edge/000000_1.jpg: no garment in this mask",
    ),
    "a grey mask": (
        "train_edge/000000_1.jpg",
        lambda path: cv2.imwrite(str(path), read.picture(path) // 2 + 64),
        "train_edge/000000_1.jpg: 100% of it is neither black nor white",
    ),
    "a mask of the background": (
        "train_edge/000000_1.jpg",
        lambda path: cv2.imwrite(str(path), 255 - read.picture(path)),
        "black and white exchanged?",
    ),
    "labels of another set": (
        "train_label/000003_0.png",
        lambda path: cv2.imwrite(str(path), np.full((256, 192), 14, np.uint8)),
        "train_label/000003_0.png: labels that VITON does not have: 14",
    ),
    "labels in colour": (
        "train_label/000003_0.png",
        lambda path: cv2.imwrite(str(path), np.arange(256 * 192 * 3).reshape(256, 192, 3).astype(np.uint8)),
        "a coloured picture instead of one number a pixel",
    ),
    "nobody": (
        "train_pose/000004_0_keypoints.json",
        lambda path: path.write_text('{"people": []}'),
        "000004_0_keypoints.json: no key point seen",
    ),
    "points of a larger photo": (
        "train_pose/000004_0_keypoints.json",
        lambda path: path.write_text(
            '{"people": [{"pose_keypoints": [500, 20, 1, 50, 600, 1' + ", 0, 0, 0" * 16 + "]}]}"
        ),
        "000004_0_keypoints.json: 2 key points outside of 256x192",
    ),
    "broken JSON": (
        "train_pose/000004_0_keypoints.json",
        lambda path: path.write_text('{"people": '),
        "000004_0_keypoints.json: not a file of key points",
    ),
    "an empty array": (
        "train_densepose/000005_0.npy",
        lambda path: path.write_bytes(b""),
        "000005_0.npy: not a NumPy array of body parts",
    ),
    "an array of one number": (
        "train_densepose/000005_0.npy",
        lambda path: np.save(path, np.array(5)),
        "000005_0.npy: not a NumPy array of body parts: its shape is ()",
    ),
    "an array of nobody": (
        "train_densepose/000005_0.npy",
        lambda path: np.save(path, np.zeros((256, 192), np.uint8)),
        "000005_0.npy: nobody in it",
    ),
    "an array that is no number": (
        "train_densepose/000005_0.npy",
        lambda path: np.save(path, np.full((256, 192), np.nan)),
        "000005_0.npy: not a NumPy array of body parts: not all of it are numbers",
    ),
    "other numbers": (
        "train_densepose/000005_0.npy",
        lambda path: np.save(path, np.full((256, 192), 25, np.uint8)),
        "000005_0.npy: body parts up to 25",
    ),
    "another shape": (
        "train_img/000001_0.jpg",
        lambda path: cv2.imwrite(str(path), np.zeros((200, 200, 3), np.uint8)),
        "train_img/000001_0.jpg: 200x200 is not of the shape 4:3",
    ),
    "no folder": ("train_edge", shutil.rmtree, "train_edge: no such folder"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_check_names_the_broken_file(
    damage: str, published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, change, says = DAMAGE[damage]
    folder = tmp_path / "VITON"
    shutil.copytree(published("viton") / "VITON_traindata", folder)
    change(folder / name)
    assert check.main([str(folder)]) == 1
    *problems, summary, total = capsys.readouterr().out.strip().splitlines()
    assert any(says in line for line in problems), problems
    assert len(problems) == 1 + (damage == "labels of another set"), (
        "one line a problem, not one a consequence"
    )
    assert all(name in line for line in problems)
    assert total == f"{len(problems)} problems"
    assert summary == "VITON, train: 6 paired, 6 unpaired; parse maps, key points, dense pose"


def test_mistakes_are_one_sentence(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    viton = published("viton")
    for arguments, says in (
        ({"path": tmp_path}, "no data set that is known"),
        ({"path": tmp_path / "none"}, "no such folder"),
        ({"path": published("rmgn_release")}, "has test here, no train"),
        ({"path": viton, "pairs": tmp_path / "none.txt"}, "none.txt: no such file"),
    ):
        with pytest.raises(ValueError, match=says) as error:
            open_dataset(**arguments)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    listed = tmp_path / "bad.txt"
    listed.write_text("a.jpg b.jpg\nc.jpg\n")
    with pytest.raises(ValueError, match=r"bad.txt, line 2: 'c.jpg' is not `person.jpg garment.jpg`"):
        open_dataset(viton, pairs=listed)
    folder = tmp_path / "hd"
    shutil.copytree(published("viton_hd"), folder)
    shutil.rmtree(folder / "train" / "openpose_json")
    with (folder / "test_pairs.txt").open("a") as file:
        file.write("00001_00.jpg\n")
    assert check.main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "test_pairs.txt, line 7: '00001_00.jpg' is not `person.jpg garment.jpg`" in out
    assert "VITON-HD, train: 6 paired, 6 unpaired; parse maps, no key points, dense pose" in out
    listed.write_text("a.jpg b.jpg\n")
    with pytest.raises(ValueError, match=r"a.jpg: no such file"):
        open_dataset(viton, pairs=listed)[0]
    assert check.main([str(tmp_path)]) == 2


def test_a_palette_is_not_the_labels(published: Published) -> None:
    """VITON-HD's parse maps are palette pictures: their colours, which OpenCV returns, mean nothing."""
    path = published("viton_hd") / "train" / "image-parse-v3" / "00000_00.png"
    colours = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert colours is not None
    assert colours.ndim == 3
    assert read.numbers(path).max() < 20


def test_real_photos(real_photos: Path, tmp_path: Path) -> None:
    """Real VITON files in PF-AFN's test layout and the release's, and as plain pictures: the same samples."""
    viton = real_photos / "viton"
    pfafn, release = tmp_path / "pfafn", tmp_path / "release"
    names = {"person": ("test_img", "reference_person"), "garment": ("test_clothes", "cloth")}
    for ours, (theirs, women) in {**names, "mask": ("test_edge", "cloth_mask")}.items():
        shutil.copytree(viton / ours, pfafn / theirs)
        shutil.copytree(viton / ours, release / f"women_top_{women}_test")
    for folder in (pfafn, release):
        shutil.copy(viton / "pairs.txt", folder / "test_pairs.txt")
        assert check.main([str(folder)]) == 0
    samples = [open_dataset(f, "test", "unpaired") for f in (viton, pfafn, release)]
    assert len(samples[0]) == 6
    for index in range(6):
        a, b, c = (data[index] for data in samples)
        _same_tensors(a, b)
        _same_tensors(a, c)
        assert ((a.garment_mask == 0) | (a.garment_mask == 1)).all()
        corner = a.garment[:, :4, :4].mean()
        assert corner > 0.5, "shop photos are on white"
    with pytest.raises(ValueError, match="ask for unpaired"):
        open_dataset(pfafn, "test")
