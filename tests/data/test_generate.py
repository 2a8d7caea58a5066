"""The generator's promises: equal files for a seed, whatever workers; resuming; clear errors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch

from engines.program import InputError
from engines.sole_writer import sole_writer
from engines.whole_file import whole_file
from rmgn.data import check, pictures, sheet
from rmgn.data.generate import Order, generate, main
from rmgn.data.generated import GeneratedPeople
from rmgn.data.people import layers
from rmgn.data.people.assets import Assets, announce, assets, read_proxy
from rmgn.data.people.inspection import Rejected, first_accepted
from rmgn.data.people.light import make_lights, read_surroundings
from rmgn.data.people.lower import draw_lower
from rmgn.data.people.pose import draw_pose
from rmgn.data.people.scene import make_sample
from rmgn.data.people.style import draw_hard_pair
from rmgn.data.pictures import write_pictures
from rmgn.data.stock import find_fonts, stock


def test_workers_end_with_a_killed_parent() -> None:
    code = (
        "import os, time; from rmgn.data.workers import pool;"
        "print(pool(1).submit(os.getpid).result(), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    worker.wait(timeout=30)
    parent.stdout.close()


def test_ctrl_c_ends_workers_at_once_and_without_a_word() -> None:
    """Those at work, those waiting for work and those that are only starting."""
    code = (
        "import sys, time\n"
        "from rmgn.data.workers import each, processes\n"
        "try:\n"
        "    with processes(2) as executor:\n"
        "        for _ in each(executor, time.sleep, [(0,), (60,)]):\n"
        "            print('begun', flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=20)
    assert (parent.returncode, said) == (130, "")


def _stop_at_half(path: Path, *_: object) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(b"half a file")
        raise KeyboardInterrupt


def test_ctrl_c_is_one_line_and_leaves_nothing_half_written(
    layers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While layers are made, while they are dressed as pictures, and in what reads them."""
    shutil.copytree(layers_folder, tmp_path / "layers")
    mine = tmp_path / ".download.partial.zip"
    mine.touch()
    (tmp_path / "layers" / ".000001.partial.zip").write_bytes(b"of a worker that was killed")
    (tmp_path / "layers" / "000002.zip").unlink()
    arguments = ["--out", str(tmp_path), "--seed", "11", "--workers", "1", "--as", "pictures", "--count"]

    def stopped(status: int, line: str) -> None:
        assert status == 130
        said = capsys.readouterr().err
        assert said.strip().splitlines()[-1] == line
        assert "Traceback" not in said
        assert list(tmp_path.rglob("*.partial*")) == [mine]

    with monkeypatch.context() as patch:
        patch.setattr(layers, "write_whole", _stop_at_half)
        stopped(main([*arguments, "3"]), "interrupted; the same command goes on")
    with sole_writer(tmp_path / "layers"):
        assert main([*arguments, "3"]) == 2
    assert "another program is writing into" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "write_whole", _stop_at_half)
        stopped(main([*arguments, "2"]), "interrupted; the same command goes on")
    with monkeypatch.context() as patch:
        patch.setattr(layers, "load", _stop_at_half)
        for program, more in ((check, []), (sheet, ["--out", str(tmp_path / "sheet.png")])):
            stopped(program.main([str(tmp_path / "layers"), *more]), "interrupted")


def test_a_sheet_is_told(layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    assert sheet.main([str(layers_folder), "--out", str(out), "--count", "2", "--columns", "2"]) == 0
    assert capsys.readouterr().out == f"{out}: 2 samples\n"
    for arguments, says in (
        ([str(out), "--assets", str(tmp_path)], "no assets in"),
        ([str(tmp_path / "no" / "sheet.png")], "there is no folder"),
        ([str(tmp_path / "folder.png")], "is a folder"),
        ([str(tmp_path / "sheet.txt")], "has no picture suffix"),
    ):
        (tmp_path / "folder.png").mkdir(exist_ok=True)
        assert sheet.main([str(layers_folder), "--out", *arguments]) == 2
        assert says in capsys.readouterr().err


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.zip"))}


def test_goes_on_after_a_kill(layers_folder: Path, tmp_path: Path) -> None:
    """What is there stays; a half-written file is no obstacle; the rest comes out the same."""
    done = layers_folder / "000001.zip"
    for kept in (done, layers_folder / "order.json"):
        (tmp_path / kept.name).write_bytes(kept.read_bytes())
    (tmp_path / ".000000.partial.zip").write_bytes(b"half a file")
    before = (tmp_path / done.name).stat().st_mtime_ns
    generate(Order(str(tmp_path), 2, seed=11), progress=False)
    assert (tmp_path / done.name).stat().st_mtime_ns == before
    made = _bytes(tmp_path)
    assert made["000000.zip"] == (layers_folder / "000000.zip").read_bytes()
    assert not list(tmp_path.glob("*.partial*"))
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1]
    assert {"shape", "pose", "garments", "camera", "rejected"} <= json.loads(lines[0]).keys()


@pytest.mark.slow
def test_workers_do_not_matter(layers_folder: Path, tmp_path: Path) -> None:
    generate(Order(str(tmp_path), 3, seed=11), workers=2, progress=False)
    assert _bytes(tmp_path) == _bytes(layers_folder)


def test_another_order_does_not_mix_in(layers_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"holds samples of another order.*\): choose another folder"):
        generate(Order(str(layers_folder), 3, seed=12), progress=False)


def test_other_assets_do_not_mix_in(tmp_path: Path) -> None:
    """One file more, and other people are drawn."""
    root, out = tmp_path / "assets", tmp_path / "layers"
    (root / "hdri").mkdir(parents=True)
    (root / "hdri" / "room.exr").touch()
    order = Order(str(out), 0, assets=str(root))
    generate(order, progress=False)
    generate(order, progress=False)
    (root / "hdri" / "yard.exr").touch()
    assets.cache_clear()  # as in another process
    with pytest.raises(ValueError, match="of other assets"):
        generate(order, progress=False)
    note = json.loads((out / "order.json").read_text())
    (out / "order.json").write_text(json.dumps(note | {"assets": True}))  # of before they were noted
    generate(order, progress=False)
    with pytest.raises(ValueError, match=r"of other assets .*: delete .*order\.json, or choose"):
        generate(Order(str(out), 0), progress=False)
    (out / "order.json").unlink()
    generate(Order(str(out), 0), progress=False)


def test_samples_of_an_unknown_order_are_left_alone(layers_folder: Path, tmp_path: Path) -> None:
    sample = tmp_path / "000000.zip"
    sample.write_bytes((layers_folder / "000000.zip").read_bytes())
    with pytest.raises(ValueError, match=r"not the order\.json"):
        generate(Order(str(tmp_path), 2), progress=False)
    assert list(tmp_path.iterdir()) == [sample]


def test_hard_samples_are_what_they_say(tmp_path: Path) -> None:
    """Midriffs that the other garment covers, long sleeves, elbows out, skirts and high waists abound."""
    rng = np.random.default_rng(0)
    waists = [draw_lower(rng, True, hard=True).waist for _ in range(100)]
    assert sum(waist > 0.18 for waist in waists) > 25
    pairs = [(waist, draw_hard_pair(rng, feminine=True, waist=waist)) for waist in waists]
    covered = []
    for waist, pair in pairs:
        short, long = sorted(pair, key=lambda style: -style.hem)
        if short.hem > waist >= long.hem + 0.03:
            covered.append(short)
            assert short.tuck is None
            if long.kind not in ("cardigan", "jacket") and not (long.tail or long.slant):
                assert (long.tuck is not None) == (waist > 0.13), "the waistband in view says it"
    necks = [{style.neck if style.sleeve else "straps" for style in pair} for _, pair in pairs]
    assert sum("crew" in pair and bool(pair & {"square", "scoop"}) for pair in necks) > 15
    assert sum(pair == {"straps", "off"} for pair in necks) > 8
    assert len(covered) > 50
    tucked = [any(style.tuck is not None for style in pair) for _, pair in pairs]
    assert 30 < sum(tucked) < 80
    assert not any(style.tuck is not None and style.opening for _, pair in pairs for style in pair)
    assert sum(short.hem > 0.24 for short in covered) > 15, "bustiers over high waists"
    assert sum(bool(short.opening) for short in covered) < 5
    assert 70 < sum(style.sleeve > 0.7 for _, pair in pairs for style in pair) < 130
    poses = [draw_pose(rng, hard=True).name for _ in range(200)]
    assert sum("akimbo" in name for name in poses) > 80
    assert sum(draw_lower(rng, True, hard=True).kind == "skirt" for _ in range(200)) > 80
    generate(Order(str(tmp_path), 1, seed=11, hard=1.0), progress=False)
    assert layers.load(tmp_path / "000000.zip").meta["hard"] is True
    assert json.loads((tmp_path / "order.json").read_text())["hard"] == 1.0
    with pytest.raises(ValueError, match="another order"):
        generate(Order(str(tmp_path), 1, seed=11), progress=False)


def test_fewer_rays_show_the_same_sample(layers_folder: Path, tmp_path: Path) -> None:
    """In four subpixels of a pixel as in nine, but for edges and light; folders of the two are not mixed."""
    generate(Order(str(tmp_path), 1, seed=11, subpixels=2), progress=False)
    with pytest.raises(ValueError, match="another order"):
        generate(Order(str(tmp_path), 1, seed=11), progress=False)
    few, many = (layers.load(folder / "000000.zip") for folder in (tmp_path, layers_folder))
    assert few.meta == many.meta
    for one, other in zip(few.worn, many.worn, strict=True):
        assert (one.labels == other.labels).mean() > 0.99
        inside = (one.garment[..., 0] == 255) & (other.garment[..., 0] == 255)
        light, full = (layers.unpack_light(worn.light)[inside] for worn in (one, other))
        assert light.mean() == pytest.approx(full.mean(), rel=0.08)  # of 24 lamps in place of 54
        assert np.abs(light - full).mean() < 0.16 * full.mean()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--count", "0"], "--count"),
        (["--subpixels", "4"], "--subpixels"),
        (["--hard", "1.5"], "--hard"),
        (["--hard", "0.5", "--video"], "--video"),
        (["--seconds", "2"], "--seconds is of clips: give --video as well"),
        (["--out", f"{__file__}/x"], "cannot write into"),
        (["--workers", "0"], "--workers"),
        (["--seed", "-1"], "--seed"),
        (["--assets", "/no/such/folder"], "--assets"),
    ],
)
def test_bad_arguments_are_one_clear_line(
    change: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), "--count", "1", *change]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]


def test_assets_are_counted_and_must_be_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in which nothing is found is refused before anything is written."""
    root, out = tmp_path / "assets", tmp_path / "out"
    root.mkdir()
    assert main(["--out", str(out), "--count", "1", "--assets", str(root)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert f"no assets in {root}: looked for makehuman/" in said
    assert not out.exists()
    for name in ("makehuman/hair/bob/bob.mhclo", "makehuman/hair/long/long.mhclo", "hdri/room.exr"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    announce(root)
    said, warned = capsys.readouterr()
    assert said == "assets: 2 hair styles, 1 surroundings\n"
    assert warned.splitlines() == [
        f"warning: no skins, eyebrows, eyelashes in {root}: they are drawn instead",
        "warning: fewer than 4 surroundings: training and evaluation share them",
    ]
    announce(None)
    assert capsys.readouterr() == ("", "")
    for name in ("makehuman/hair/bob/._bob.mhclo", "makehuman/hair/bob/._a.png", "hdri/._room.exr"):
        (root / name).touch()  # as the archives of a Mac hold beside each file
    assert len(Assets(root).files()) == 3
    assert Assets(root).proxy_texture(root / "makehuman/hair/bob/bob.mhclo") is None


@pytest.mark.parametrize(
    ("proxy", "shape"),
    [
        ("obj_file x.obj\nverts 0\n0 1 2 0.3 0.3", "v 0 0 0\nf 1 1 1"),
        ("obj_file x.obj\nverts 0\n0 1 2 .z 0 0 0 0 0", "v 0 0 0\nf 1 1 1"),
        ("obj_file x.obj\nverts 0\n0", "v 0 0 0"),
        ("verts 0\n0", "v 0 0 0\nf 1 1 1"),
        ("obj_file x.obj\nverts 0\n0\n0", "v 0 0 0\nf 1 1 1"),
    ],
    ids=["cut short", "no number", "no faces", "no shape", "too many"],
)
def test_a_damaged_shape_is_named(proxy: str, shape: str, tmp_path: Path) -> None:
    file = tmp_path / "x.mhclo"
    (tmp_path / "x.obj").write_text(shape)
    file.write_text(proxy)
    with pytest.raises(ValueError, match=r"x\.mhclo, or the \.obj that it names, is damaged: "):
        read_proxy(file)


def test_surroundings_may_be_grey_and_have_a_sun(tmp_path: Path) -> None:
    """A sun that half precision does not hold lights a room; it blackened all of it."""
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
    room = np.full((64, 128), 0.5, np.float32)
    room[10, 20], room[40, 20] = np.inf, np.nan
    for name, picture in (("grey", room), ("coloured", np.repeat(room[:, :, None], 3, axis=2))):
        assert cv2.imwrite(str(tmp_path / f"{name}.exr"), picture)
        read = read_surroundings(tmp_path / f"{name}.exr")
        assert read.shape == (64, 128, 3)
        assert (read[10, 20] == np.finfo(np.float16).max).all()
        assert (read[40, 20] == 0).all()
        lights = make_lights(read, np.array([0.0, -1, 0]), np.random.default_rng(0))
        assert np.isfinite(lights.radiance).all()


def test_damaged_fonts_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / ".fonts").mkdir()
    whole = find_fonts()
    for name in ("broken.ttf", "._hidden.ttf"):
        (tmp_path / ".fonts" / name).write_bytes(b"no font")
    assert find_fonts() == whole
    if whole:
        shutil.copy(whole[0], tmp_path / ".fonts" / "own.ttf")
        assert len(find_fonts()) == len(whole) + 1


def test_pictures_and_their_check(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(GeneratedPeople(layers_folder, seed=1, flip=False), tmp_path, progress=False)
    assert check.main([str(tmp_path)]) == 0
    assert check.main([str(layers_folder)]) == 0
    with np.load(tmp_path / "flow" / "000000_a.npz") as truth:
        assert truth["flow"].dtype == np.float16
        assert truth["visible"].dtype == bool
    (tmp_path / "parse" / "000001_b.png").unlink()
    assert check.main([str(tmp_path)]) == 1
    assert "000001_b: no parse" in capsys.readouterr().out
    for name in ("garment/000002_a.jpg", "depth/000002_b.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "keypoints" / "000002.json").unlink()
    (tmp_path / "keypoints" / "000001.json").write_text("[[1, 2")
    (tmp_path / "bodyparts" / "000000.png").unlink()
    (tmp_path / "flow" / "000000_a.npz").write_bytes(b"cut short")
    assert check.main([str(tmp_path)]) == 1
    text = capsys.readouterr().out
    for problem in (
        "000002: no keypoints",
        "000001.json: not a file",
        "000000: no bodyparts",
        "_a.npz: not a",
        "000002_a: unreadable picture",
        "000002_b: unreadable picture",
    ):
        assert problem in text
    assert "3 samples, 7 problems" in text
    points = tmp_path / "keypoints" / "000001.json"
    for text in (json.dumps([[1, 2, 3]] * 18), json.dumps([[1, 2, float("nan")]] * 17), '{"people": []}'):
        points.write_text(text)
        assert [problem for problem in check.check_pictures(tmp_path) if str(points) in problem], text
    for file in tmp_path.glob("*/000001*"):
        file.unlink()
    assert next(check.check_pictures(tmp_path)) == "000001: missing in the numbering"
    assert check.main([str(tmp_path / "flow")]) == 2


def test_the_check_of_pictures_looks_into_them(pictures_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(pictures_folder, tmp_path / "pictures")
    assert list(check.check_pictures(folder)) == []
    size = np.zeros((256, 192), np.uint8)
    with np.load(folder / "flow" / "000002_a.npz") as truth:
        flow, visible = np.full_like(truth["flow"], 3), truth["visible"]
    np.savez(folder / "flow" / "000002_a.npz", flow=flow, visible=visible)
    damage: dict[str, tuple[Any, str]] = {
        "garment_mask/000000_a.png": (size + 100, "000000_a: garment mask is not binary"),
        "parse/000000_b.png": (size + 99, "000000_b: unknown parse label"),
        "garment/000001_a.jpg": (np.zeros((100, 100, 3), np.uint8), "000001_a: pictures and truth differ in"),
        "depth/000001_b.png": (np.zeros((10, 10), np.uint16), "000001_b: pictures and truth differ in size"),
        "bodyparts/000001.png": (size[:100], "000001.png: not of the size of 000001_a.jpg"),
        "bodyparts/000002.png": (size + 200, "000002.png: not in the colours of detectron2's parts"),
    }
    for name, (pixels, _) in damage.items():
        assert cv2.imwrite(str(folder / name), pixels)
    found = list(check.check_pictures(folder))
    for says in (*(says for _, says in damage.values()), "000002_a: flow outside [-1, 1]"):
        assert [problem for problem in found if says in problem], (says, found)
    assert len(found) == len(damage) + 1, found


def _with(sample: layers.Sample, **changes: Any) -> layers.Sample:
    """A sample with another first person: what makes each plane anew from the old one."""
    worn = sample.worn[0]
    made = {name: change(getattr(worn, name).copy()) for name, change in changes.items()}
    return replace(sample, worn=(replace(worn, **made), sample.worn[1]))


def _moved(place: Any, metres: float) -> Any:
    """Where a garment is, further to the side in its photo."""
    place[..., 0][place[..., 0] > 0] += round(metres / layers.PLACE_UNIT)
    return place


UNSOUND: dict[str, tuple[dict[str, Callable[[Any], Any]], str]] = {
    "flow beside the garment": (
        {"place": lambda place: _moved(place, 0.04)},
        "misses the shop photo's garment",
    ),
    "flow out of the photo": ({"place": lambda place: _moved(place, 3.0)}, "a: flow leaves the shop photo"),
    "shares of more than all": ({"cover": lambda cover: cover | 255}, "a/cover: shares add up to"),
    "a label of nothing": ({"labels": lambda parse: parse * 0 + 99}, "a/labels: unknown label"),
    "no place": ({"place": lambda place: place * 0}, "a/place: garment without a place"),
    "no garment": ({"garment": lambda garment: garment * 0}, "a: hardly any garment"),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_the_check_of_layers_looks_into_them(kind: str, layers_folder: Path) -> None:
    sample = layers.load(layers.files(layers_folder)[0])
    assert list(check.sample_problems(sample)) == []
    changes, says = UNSOUND[kind]
    found = list(check.sample_problems(_with(sample, **changes)))
    assert [problem for problem in found if says in problem], found


def test_damaged_layers_are_named(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a folder is finished, and a folder that cannot be."""
    folder = tmp_path / "layers"
    shutil.copytree(layers_folder, folder)
    (folder / "000001.zip").write_bytes(b"cut short")
    count = len(list(folder.glob("*.zip")))
    order = json.loads((folder / "order.json").read_text())
    size = "x".join(map(str, order["size"]))
    arguments = ["--count", str(count), "--size", size, "--seed", str(order["seed"]), "--workers", "1"]
    assert main(["--out", str(folder), *arguments]) == 2
    assert "000001.zip is damaged" in capsys.readouterr().err
    assert main(["--out", str(folder / "000001.zip" / "below"), *arguments]) == 2
    assert "000001.zip is a file" in capsys.readouterr().err


def test_the_order_of_a_folder_is_written_once(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And where it is damaged, the message says what it should hold."""
    folder = tmp_path / "layers"
    shutil.copytree(layers_folder, folder)
    note = folder / "order.json"
    order = json.loads(note.read_text())
    size = "x".join(map(str, order["size"]))
    arguments = ["--out", str(folder), "--count", "1", "--size", size, "--seed", str(order["seed"])]
    note.chmod(0o444)
    before = note.stat().st_mtime_ns
    assert main([*arguments, "--workers", "1"]) == 0
    assert note.stat().st_mtime_ns == before
    note.write_bytes(note.read_bytes()[:20])
    capsys.readouterr()
    assert main([*arguments, "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {note} is damaged (")
    note.write_text(said.partition("let the file hold ")[2])
    assert json.loads(note.read_text()) == order


def test_the_manifest_lists_all_that_is_there(layers_folder: Path, tmp_path: Path) -> None:
    """Also after the same command with a smaller count."""
    folder = tmp_path / "layers"
    shutil.copytree(layers_folder, folder)
    generate(Order(str(folder), 1, seed=11), progress=False)
    assert (folder / "manifest.jsonl").read_bytes() == (layers_folder / "manifest.jsonl").read_bytes()
    assert len((folder / "manifest.jsonl").read_text().splitlines()) == 3


def test_lost_and_exchanged_samples_are_found(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the manifest, and without one by the numbering."""
    folder = tmp_path / "layers"
    shutil.copytree(layers_folder, folder)
    assert list(check.check_layers(folder)) == []
    shutil.copyfile(folder / "000001.zip", folder / "000000.zip")
    (folder / "000002.zip").unlink()
    shutil.copyfile(folder / "000001.zip", folder / "000006.zip")
    assert check.main([str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "000000.zip: differs from manifest.jsonl",
        "000002.zip: missing",
        "000006.zip: not in manifest.jsonl",
        "000003 to 000005: missing in the numbering",
        "3 samples, 4 problems",
    ]
    (folder / "manifest.jsonl").write_text('{"index": 0}\n')
    assert next(check.check_layers(folder)).startswith(f"{folder / 'manifest.jsonl'}, line 1 is damaged")
    (folder / "manifest.jsonl").unlink()
    (folder / "000006.zip").rename(folder / "000003.zip")
    assert list(check.check_layers(folder)) == ["000002: missing in the numbering"]
    capsys.readouterr()
    assert check.main([str(folder)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("without manifest.jsonl")


def test_the_first_draw_that_is_not_rejected_counts() -> None:
    def draw(attempt: int) -> str:
        if attempt in (0, 2):
            raise Rejected("torn")
        if attempt == 1:
            raise Rejected("arm")
        return f"draw {attempt}"

    assert first_accepted(draw, "sample 7") == (
        "draw 3",
        3,
        ["torn", "arm", "torn"],
    )
    with pytest.raises(InputError, match=r"^clip 2: all 40 draws were rejected, 20 for torn, 20 for arm$"):
        first_accepted(lambda attempt: draw(attempt % 2), "clip 2")


@pytest.mark.slow
def test_with_assets(tmp_path: Path) -> None:
    """Runs where RMGN_ASSETS names a folder in MakeHuman's layout."""
    root = os.environ.get("RMGN_ASSETS")
    if not root:
        pytest.skip("RMGN_ASSETS names no folder of assets")
    sample, *_ = first_accepted(
        lambda attempt: make_sample(np.random.default_rng([1, attempt]), (256, 192), assets(Path(root))), "it"
    )
    assert sample.meta["head"]["hair"] in assets(Path(root)).hair
    layers.save(tmp_path / "000000.zip", sample)
    assert len(GeneratedPeople(tmp_path, assets=Path(root))) == 1


def test_checksums_know_the_very_set(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, file = tmp_path / "set", tmp_path / "set.sha256"
    copy.mkdir()
    for name, data in _bytes(layers_folder).items():
        (copy / name).write_bytes(data)
    assert check.main([str(copy), "--write-checksums", str(file)]) == 0
    lines = file.read_text().splitlines()
    expected = hashlib.sha256((copy / "000001.zip").read_bytes()).hexdigest()
    assert lines[1] == f"{expected}  000001.zip"
    assert check.main([str(copy), "--checksums", str(file)]) == 0
    absent = tmp_path / "none"
    for flag, path, says in (
        ("--checksums", absent, f"cannot read the checksums {absent}: No such file"),
        ("--write-checksums", absent / "x", f"cannot write {absent / 'x'}: there is no folder {absent}"),
    ):
        capsys.readouterr()
        assert check.main([str(copy), flag, str(path)]) == 2
        assert capsys.readouterr().err.startswith(f"error: {says}")
    before = _bytes(copy)
    for name in ("000001.zip", "manifest.jsonl"):
        (copy / name).touch()
        capsys.readouterr()
        assert check.main([str(copy), "--write-checksums", str(copy / name)]) == 2
        assert f"{name} is read here and would be overwritten" in capsys.readouterr().err
    assert {name: data for name, data in _bytes(copy).items() if data} == before
    sample = layers.load(copy / "000000.zip")
    sample.worn[0].depth[0, 0] += 4
    layers.save(copy / "000000.zip", sample)
    (copy / "000001.zip").rename(copy / "000009.zip")
    capsys.readouterr()
    assert check.main([str(copy), "--checksums", str(file)]) == 1
    said = capsys.readouterr().out
    assert "000000.zip: differs from set.sha256" in said
    assert "000001.zip: missing" in said
    assert "000009.zip: not in set.sha256" in said
    file.write_text("no checksum\n")
    assert check.main([str(copy), "--checksums", str(file)]) == 2
    assert "line 1" in capsys.readouterr().err


def test_eval_looks_are_fixed(layers_folder: Path, tmp_path: Path) -> None:
    """By number, whatever the position in a folder; and unlike those of training.

    But for the few who have the next person of their folder behind them.
    """
    whole = GeneratedPeople(layers_folder, flip=False, split="eval")
    for k in (1, 2):
        source = layers_folder / f"{k:06d}.zip"
        (tmp_path / source.name).write_bytes(source.read_bytes())
    some = GeneratedPeople(tmp_path, flip=False, split="eval")
    for name, value in whole[1].items():
        assert torch.equal(value, some[0][name]), name
    training = GeneratedPeople(layers_folder, flip=False)
    assert not torch.equal(training[1]["tile"], whole[1]["tile"])
    known = stock(None, "eval")
    assert not known.fonts, "those of a machine are not everywhere the same"
    assert set(known.faces).isdisjoint(stock(None, "train").faces)
    assert set(known.words).isdisjoint(stock(None, "train").words)


@pytest.mark.parametrize(
    "change", [{"size": None}, {"garments": []}, {"keypoints": None}, {"garments": [{}, {}]}], ids=str
)
def test_a_sample_that_tells_too_little_of_itself_is_a_problem(
    layers_folder: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    sample = layers.load(layers_folder / "000000.zip")
    sample.meta.update(change)
    layers.save(tmp_path / "000000.zip", sample)
    (problem,) = check.check_layers(tmp_path)
    assert problem.startswith("000000.zip: meta.json is damaged: ")
