"""Recordings keep the time and are whole or not there, whatever their name and rate."""

import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.program import InputError
from runtime import pictures, recording
from runtime.recording import CODECS, LONGEST_GAP_S, Recorder, check_target
from runtime.sources import open_source


def test_live_recordings_keep_the_time(clips: Any, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "out.mp4", fps=10, copies=None)
    for at, grey in ((0.0, 0), (0.02, 100), (0.5, 150), (1.0, 250)):  # two frames at once, then gaps
        recorder.add(np.full((33, 47, 3), grey, np.uint8), at)
    assert list(tmp_path.iterdir()) != [tmp_path / "out.mp4"]
    assert recorder.finish() == tmp_path / "out.mp4"
    assert recorder.finish() is None
    shown = [round(float(frame.mean()), -1) for frame in clips.decode(tmp_path / "out.mp4")]
    # A gap holds what was seen before it, not what is seen after it.
    assert shown == [0] + 4 * [100] + 5 * [150] + [250]


def test_recordings_leave_out_what_a_camera_was_away_for(clips: Any, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "out.mp4", fps=10, copies=None)
    for at in (0.0, 0.1, 3600.0, 3600.1):
        recorder.add(np.zeros((32, 48, 3), np.uint8), at)
    recorder.finish()
    assert len(clips.decode(tmp_path / "out.mp4")) == 2 + round(LONGEST_GAP_S * 10) + 2


def test_a_recording_ends_before_the_disk_is_full(
    clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "out.mp4", fps=10, copies=1)
    recorder.add(clips.scene(0))
    monkeypatch.setattr(recording, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(InputError, match="ends here"):
        recorder.add(clips.scene(1))
    assert recorder.finish() == tmp_path / "out.mp4"
    assert len(clips.decode(tmp_path / "out.mp4")) == 1


def test_a_disk_full_before_the_first_frame_leaves_nothing(
    clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "out.mp4", fps=10, copies=1)
    monkeypatch.setattr(recording, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(InputError, match="ends here"):
        recorder.add(clips.scene(0))
    assert recorder.finish() is None
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_take_its_name_is_kept_under_another(
    clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody made a folder of that name, or the disk refuses at last what was written."""

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for name, reason in (("a.mp4", "Is a directory"), ("b.mp4", "Input/output error")):
        recorder = Recorder(tmp_path / name, fps=10, copies=1)
        recorder.add(clips.scene(0))
        if name == "a.mp4":
            (tmp_path / name).mkdir()
        else:
            monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(InputError, match=rf"{reason}; the video is kept as (.*\.partial\.mp4)$") as told:
            recorder.finish()
        assert len(clips.decode(Path(str(told.value).split("kept as ")[1]))) == 1
        assert not (tmp_path / name).is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="knows no such lock")
def test_two_programs_do_not_record_into_one_file(clips: Any, tmp_path: Path) -> None:
    first, second = (Recorder(tmp_path / "a.mp4", fps=10, copies=1) for _ in range(2))
    first.add(clips.scene(0))
    with pytest.raises(InputError, match="is being recorded by another program; write to another name"):
        second.add(clips.scene(1))
    second.abandon()
    first.add(clips.scene(1))
    first.finish()
    assert len(clips.decode(tmp_path / "a.mp4")) == 2
    second.add(clips.scene(2))  # now the name is free, and the newest recording has it
    second.finish()
    assert len(clips.decode(tmp_path / "a.mp4")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_to_a_video_stays(clips: Any, tmp_path: Path) -> None:
    link, real = tmp_path / "link.mp4", tmp_path / "videos" / "real.mp4"
    real.parent.mkdir()
    real.write_bytes(b"older")
    link.symlink_to(real)
    recorder = Recorder(link, fps=10, copies=1)
    recorder.add(clips.scene(0))
    assert recorder.finish() == link
    assert link.is_symlink()
    assert len(clips.decode(real)) == 1


def test_a_recording_whose_folder_vanished_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    recorder = Recorder(folder / "out.mp4", fps=10, copies=1)
    recorder.add(np.zeros((32, 48, 3), np.uint8))
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"cannot write .*out\.mp4"):
        recorder.finish()
    assert recorder.finish() is None


def test_a_disk_that_became_read_only_is_told(
    clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording is lost, and cannot be removed either; a mirror goes on."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    recorder = Recorder(tmp_path / "out.mp4", fps=10, copies=1)
    recorder.add(clips.scene(0))
    monkeypatch.setattr(Recorder, "_is_whole", lambda _: False)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InputError, match=r"cannot write .*out\.mp4"):
        recorder.finish()


@pytest.mark.parametrize("suffix", CODECS)
def test_a_recording_that_is_not_whole_leaves_the_older_one(clips: Any, suffix: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: OpenCV reports neither."""
    resource = pytest.importorskip("resource")
    out = tmp_path / f"out{suffix}"
    recorder = Recorder(out, fps=10, copies=1)
    recorder.add(clips.scene(0))
    assert recorder.finish() == out
    older = out.read_bytes()
    recorder = Recorder(out, fps=10, copies=1)
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        noise = np.random.default_rng(0)
        for _ in range(40):
            recorder.add(noise.integers(0, 256, (96, 128, 3), np.uint8))
        with pytest.raises(InputError, match=r"cannot write .* whole: is its disk full"):
            recorder.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert out.read_bytes() == older
    assert list(tmp_path.iterdir()) == [out]


def test_pictures_larger_than_a_format_takes_are_told(tmp_path: Path) -> None:
    picture = np.zeros((64, 8192, 3), np.uint8)
    with pytest.raises(InputError, match=r"at 8191 pixels a side, and this has 8192x64; take \.avi"):
        Recorder(tmp_path / "out.mp4", fps=10, copies=1).add(picture)
    assert not list(tmp_path.iterdir())
    recorder = Recorder(tmp_path / "out.avi", fps=10, copies=1)
    recorder.add(picture)
    assert recorder.finish() == tmp_path / "out.avi"


@pytest.mark.parametrize("fps", [75.123, 89.913, 119.873, 503.217, 29.97, 23.976])
@pytest.mark.parametrize("suffix", CODECS)
def test_any_rate_can_be_recorded(fps: float, suffix: str, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / f"out{suffix}", fps, copies=1)
    for shade in range(5):
        recorder.add(np.full((64, 64, 3), shade, np.uint8))
    path = recorder.finish()
    assert path is not None
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in file names there")
@pytest.mark.parametrize("name", ["2026T12:30.mp4", "50% größer %03d.mp4"])
def test_videos_of_any_name(clips: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would take a colon for the end of a protocol, and %03d for a series of pictures."""
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(Path(name), fps=12, copies=1)
    recorder.add(clips.scene(0))
    assert recorder.finish() == Path(name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert open_source(name, realtime=False).read() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_names_that_are_no_text_are_told(clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of an archive of an older system: OpenCV ended the whole process, of a folder above the file too."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"out\.mp4' has bytes that are not UTF-8"):
        Recorder(Path("out.mp4"), fps=12, copies=1)
    Path("clip.mp4").write_bytes(b"0")
    with pytest.raises(InputError, match="are not UTF-8"):
        open_source("clip.mp4", realtime=False)
    with pytest.raises(InputError, match="are not UTF-8"):
        open_source(os.fsdecode(b"http://127.0.0.1:9/caf\xe9"), realtime=False)
    picture = Path(os.fsdecode(b"caf\xe9.png"))
    pictures.write(picture, clips.scene(0))
    assert (pictures.read(picture) == clips.scene(0)).all()
    with pytest.raises(InputError, match="no picture suffix"):
        pictures.check_picture(Path(os.fsdecode(b"caf\xe9.p\xe9g")))


def test_where_a_link_leads_has_to_be_a_videos_name_too(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").symlink_to(tmp_path / "latest")
    with pytest.raises(InputError, match="latest, which is no video name"):
        check_target(tmp_path / "out.mp4")
    (tmp_path / "round.mp4").symlink_to(tmp_path / "again.mp4")
    (tmp_path / "again.mp4").symlink_to(tmp_path / "round.mp4")
    with pytest.raises(InputError, match=r"cannot write .*round\.mp4"):
        check_target(tmp_path / "round.mp4")
    (tmp_path / "other.mp4").symlink_to(tmp_path / "video.avi")
    recorder = Recorder(tmp_path / "other.mp4", 25.0, 1)
    recorder.add(np.zeros((48, 64, 3), np.uint8))
    assert recorder.finish() is not None
    assert (tmp_path / "video.avi").read_bytes()[8:12] == b"AVI "
