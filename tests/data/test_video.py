"""Clips: frames that belong together, with truth in each, made again exactly."""

from __future__ import annotations

import itertools
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from engines.program import InputError
from rmgn.data import check, video
from rmgn.data.dress import Dressed, dress
from rmgn.data.generate import main
from rmgn.data.generated import Batch
from rmgn.data.people import dressed, layers
from rmgn.data.people.body import BodyModel
from rmgn.data.people.carried import Carried, Unfit, carried_surfaces
from rmgn.data.people.motion import between
from rmgn.data.people.pose import Arm, Pose
from rmgn.data.people.raytrace import Surface
from rmgn.data.people.wear import Wearer
from rmgn.data.video import ClipFrames, ClipOrder, make_clip, write_clip

FRAMES, SIZE = 5, (128, 96)


def order(folder: Path) -> ClipOrder:
    return ClipOrder(str(folder), FRAMES, 25.0, SIZE, seed=5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    make_clip(order(folder), progress=False)
    write_clip(folder)
    return folder


def test_videos_show_every_frame(clip: Path) -> None:
    for side in "ab":
        capture = cv2.VideoCapture(str(clip / f"{side}.mp4"))
        assert capture.get(cv2.CAP_PROP_FPS) == 25
        pictures = []
        while True:
            there, picture = capture.read()
            if not there:
                break
            pictures.append(picture)
        assert len(pictures) == FRAMES
        assert pictures[0].shape == (*SIZE, 3)
        assert np.asarray(cv2.imread(str(clip / f"garment_{side}.png"))).shape == (*SIZE, 3)
        mask = np.asarray(cv2.imread(str(clip / f"garment_mask_{side}.png"), cv2.IMREAD_UNCHANGED))
        assert set(np.unique(mask)) == {0, 255}
    assert not list(clip.glob(".*"))


def test_a_stopped_video_leaves_the_one_before(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in (*clip.glob("?.mp4"), *clip.glob("*.png"))}
    moments = itertools.count()

    def stopped(batch: Batch) -> Dressed:
        if next(moments) == 2:
            assert (clip / ".a.partial.mp4").exists()
            raise KeyboardInterrupt
        return dress(batch)

    monkeypatch.setattr(video, "dress", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_clip(clip, seed=5)  # another look
    assert {path.name: path.read_bytes() for path in map(clip.joinpath, before)} == before
    assert not list(clip.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX's")
def test_a_video_cut_short_does_not_take_its_name(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes beyond a limit fail as on a full disk."""
    import resource

    before = {path.name: path.read_bytes() for path in clip.glob("?.mp4")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(video, "write_picture", lambda *_: None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["a.mp4"]) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*a\.mp4 whole: is its disk full\?"):
            write_clip(clip)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in clip.glob("?.mp4")} == before
    assert not list(clip.glob(".*"))


def test_frames_that_are_lost_are_told(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those at the end too, which nothing but the clip's own note tells of."""
    assert check.main([str(clip)]) == 0
    assert capsys.readouterr().out == f"{FRAMES} samples, 0 problems\n"
    shutil.copytree(clip, tmp_path / "clip")
    for frame in (0, FRAMES - 1):
        (tmp_path / "clip" / layers.file_name(frame)).unlink()
    assert check.main([str(tmp_path / "clip")]) == 1
    lost = [f"{frame:06d}: missing in the numbering" for frame in (0, FRAMES - 1)]
    assert capsys.readouterr().out.splitlines()[:-1] == lost
    for note, says in (("{}", "'fps'"), ("[1]", "list indices"), ("{", "Expecting")):
        (tmp_path / "clip" / "clip.json").write_text(note)
        assert [p for p in check.check_layers(tmp_path / "clip") if f"clip.json is damaged ({says}" in p]
        with pytest.raises(ValueError, match=r"clip\.json is damaged"):
            ClipFrames(tmp_path / "clip")


def test_every_frame_has_its_truth(clip: Path) -> None:
    assert not list(check.check_layers(clip))
    frames = ClipFrames(clip)
    dressed = dress(frames.collate([frames[k] for k in range(len(frames))]), camera=False)
    flow = dressed.flow.flatten(0, 1).permute(0, 2, 3, 1)
    mask = torch.nn.functional.max_pool2d(dressed.garment_mask.flatten(0, 1), 3, 1, 1)
    hit = torch.nn.functional.grid_sample(mask, flow, mode="nearest", align_corners=False)
    assert hit[dressed.visible.flatten(0, 1)].mean() > 0.99


def test_cloth_and_body_move_a_little_from_frame_to_frame(clip: Path) -> None:
    samples = [layers.load(clip / f"{k:06d}.zip") for k in range(FRAMES)]
    moved = 0
    for one, other in itertools.pairwise(samples):
        for a, b in zip(one.worn, other.worn, strict=True):
            both = (a.garment[..., 0] > 250) & (b.garment[..., 0] > 250)
            step = np.abs(a.place[both][:, :2].astype(int) - b.place[both][:, :2]).max(axis=1)
            assert np.median(step) * layers.PLACE_UNIT < 0.012
            moved += int((step > 0).sum())
        points = np.array([sample.meta["keypoints"] for sample in (one, other)])[:, :, :2]
        assert np.linalg.norm(points[0] - points[1], axis=1).max() < 8
        for s, t in zip(one.shop, other.shop, strict=True):
            np.testing.assert_array_equal(s.garment, t.garment)
    assert moved > 100


def test_one_look_and_other_noise_in_each_frame(clip: Path) -> None:
    frames = ClipFrames(clip, seed=3)
    one, other = frames[0], frames[1]
    for name in ("backdrop", "tile", "palette", "skin", "camera", "gain"):
        assert torch.equal(one[name], other[name]), name
    batch = frames.collate([one, other])
    free = batch["cover"].sum(dim=-1).amax(dim=(0, 1)) == 0
    free &= batch["garment"][..., 0].amax(dim=(0, 1)) == 0
    person = dress(batch).person[:, 0]
    gap = (person[0] - person[1]).abs()[:, free]
    assert 0 < gap.mean() < 0.1


def test_a_moment_without_the_bag_says_so(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is read back; and torn cloth is told beside it."""

    def unfit(model: BodyModel, person: Wearer, carried: Carried, *others: Any) -> list[Surface]:
        if carried != Carried():
            raise Unfit("strap that does not fit")
        return carried_surfaces(model, person, carried, *others)

    monkeypatch.setattr(dressed, "carried_surfaces", unfit)
    stage, *_ = video._stage(order(clip))
    cloths = [top.worn.astype(np.float32) for top in stage.worked]
    sample = video._moment(order(clip), 0, cloths)
    assert sample.meta["left_out"] == dict.fromkeys("ab", "strap that does not fit")
    said = "without bag, scarf and belt: strap that does not fit"
    assert list(video._problems(order(clip), sample, cloths)) == [f"a: {said}", f"b: {said}"]
    cloths[1] = 3 * cloths[1]
    assert list(video._problems(order(clip), sample, cloths)) == [f"a: {said}", f"b: {said}", "b: cloth torn"]
    monkeypatch.undo()
    assert "left_out" not in layers.load(clip / "000000.zip").meta


@pytest.mark.slow
def test_a_lost_frame_is_made_again_exactly(clip: Path, tmp_path: Path) -> None:
    kept = clip / "000001.zip"
    (tmp_path / kept.name).write_bytes(kept.read_bytes())
    assert make_clip(order(tmp_path), progress=False)["frames"] == FRAMES
    for k in range(FRAMES):
        assert (tmp_path / f"{k:06d}.zip").read_bytes() == (clip / f"{k:06d}.zip").read_bytes()
    (tmp_path / kept.name).unlink()  # of a clip that is finished
    make_clip(order(tmp_path), progress=False)
    assert (tmp_path / kept.name).read_bytes() == kept.read_bytes()


@pytest.mark.slow
def test_workers_do_not_matter_for_clips(clip: Path, tmp_path: Path) -> None:
    make_clip(order(tmp_path), workers=2, progress=False)
    for k in range(FRAMES):
        assert (tmp_path / f"{k:06d}.zip").read_bytes() == (clip / f"{k:06d}.zip").read_bytes()


def test_arms_turn_evenly_and_over_the_front() -> None:
    down, up = (
        Arm((0.1, 0, -1), (0.1, -0.1, -1)),
        Arm((0.3, -0.3, -0.5), (0, 0, 1), hand=(0.0, 0.0, 1.0), curl=60),
    )
    still = Arm((0.2, 0, -1), (0.1, -0.2, -1))
    start, end = Pose("hanging-hanging", down, still), Pose("raised-hanging", up, still)
    way = [np.array(between(start, end, share).left.fore) for share in np.linspace(0, 1, 21)]
    way = [v / np.linalg.norm(v) for v in way]
    turns = [np.degrees(np.arccos(np.clip(a @ b, -1, 1))) for a, b in itertools.pairwise(way)]
    assert max(turns) < 14
    assert min(v[1] for v in way) < -0.5
    assert way[-1] @ [0, 0, 1] > 0.999
    middle = between(start, end, 0.5)
    assert middle.left.curl == pytest.approx((down.curl + up.curl) / 2)
    assert middle.right.fore == still.fore


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--fps", "0"], "--fps"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "900"], "--seconds"),
        (["--fps", "66.667"], "--fps above 65 takes two decimals"),
    ],
)
def test_bad_lengths_are_one_clear_line(
    change: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), "--count", "1", "--video", *change]) == 2
    assert says in capsys.readouterr().err


def test_no_clip_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--video"):
        ClipFrames(tmp_path)
