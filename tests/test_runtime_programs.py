"""The programs as users run them: videos and pictures written, bad input told in one sentence."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import engines
from engines.program import InputError
from runtime import bundles, mirror, pictures, recording, screen, tryon
from runtime.dresser import Dresser
from runtime.framing import Framing
from runtime.options import parse_args
from runtime.pairs import pair_up
from runtime.pipeline import Pipeline, Result
from runtime.recording import Recorder
from runtime.sources import Camera, Source, Stills

Pixels = NDArray[np.uint8]
ROOT = Path(__file__).parent.parent
MIRROR = ("-m", "runtime.mirror")
TRYON = ("-m", "runtime.tryon")


@pytest.fixture(scope="module")
def bundle(identity_bundle: Callable[..., Path]) -> Path:
    return identity_bundle(64, 48)


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "RMGN_BUNDLE")
    }
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment)


def test_an_empty_clip_rests_by_its_own_time(clips: Any, files: Path, bundle: Path, tmp_path: Path) -> None:
    """However fast its frames are taken: 12 a second, of which the 16th is the first seen after a second."""
    flags = ("--garment", files / "shirt.png", "--bundle", bundle, "--headless", "--idle", "1")
    done = run(*MIRROR, "--source", files / "clip.mp4", *flags, "--stats", tmp_path / "stats.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "stats.json").read_text())["rested"] == clips.FRAMES - 15


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell closes it")
def test_it_runs_without_standard_error(files: Path, bundle: Path, tmp_path: Path) -> None:
    mirror_it = [sys.executable, *MIRROR, "--source", files / "clip.mp4", "--headless", "--frames", "2"]
    worn = ["--garment", files / "shirt.png", "--bundle", bundle, "--stats", tmp_path / "stats.json"]
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *mirror_it, *worn]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0
    assert done.stdout.startswith("2 frames")
    assert (tmp_path / "stats.json").is_file()


@pytest.mark.parametrize("program", [MIRROR, (ROOT / "runtime" / "mirror.py",)])
def test_a_clip_becomes_a_video(
    clips: Any, program: tuple[str | Path, ...], files: Path, bundle: Path, tmp_path: Path
) -> None:
    out, stats_file = tmp_path / "out.mp4", tmp_path / "stats.json"
    flags = (
        "--source",
        files / "clip.mp4",
        "--garment",
        files / "shirt.png",
        "--bundle",
        bundle,
        "--headless",
    )
    done = run(*program, *flags, "--record", out, "--stats", stats_file)
    assert done.returncode == 0, done.stderr
    assert f"{clips.FRAMES} frames, {clips.FRAMES} in shirt, " in done.stdout
    assert str(out) in done.stdout
    assert "p99" in done.stdout
    frames = clips.decode(out)
    assert len(frames) == clips.FRAMES
    # The garment lies in the middle of the centred crop; the frame's sides are the camera's own.
    for number, frame in enumerate(frames):
        blue, green, red = frame[90, 160].astype(int)
        assert red > 150
        assert max(blue, green) < 90
        assert np.abs(frame[:, 300:].astype(int) - clips.scene(number)[:, 300:]).mean() < 8
    stats = json.loads(stats_file.read_text())
    assert stats["frames"] == clips.FRAMES
    assert (stats["dropped"], stats["failed"]) == (0, 0)
    assert stats["garments"] == {"shirt": clips.FRAMES}
    assert stats["engine"]
    assert set(stats["latency_ms"]) == {"preprocess", "network", "composite", "total"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "stats.json"]


def test_the_mirror_dims_garments_for_dim_places(
    clips: Any, files: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    worn = ("--garment", files / "shirt.png", "--bundle", bundle, "--light", "0.5")
    done = run(*MIRROR, "--source", files / "clip.mp4", "--headless", "--frames", "2", "--record", out, *worn)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(clips.decode(out)[0][90, 160], (20, 20, 100), atol=16)


def test_frames_limits_and_pictures_end_after_one_round(
    clips: Any, files: Path, bundle: Path, tmp_path: Path
) -> None:
    flags = (
        "--garment",
        files / "shirt.png",
        "--mask",
        files / "shirt_mask.png",
        "--bundle",
        bundle,
        "--headless",
    )
    done = run(*MIRROR, "--source", files / "clip.mp4", *flags, "--frames", "5", "--size", "64x48")
    assert done.returncode == 0, done.stderr
    assert "5 frames" in done.stdout
    done = run(*MIRROR, "--source", files / "people", *flags, "--record", tmp_path / "out.avi")
    assert "2 frames" in done.stdout
    # Recorded, it is a slide show at a rate that players can show.
    shown = clips.decode(tmp_path / "out.avi")
    rate = cv2.VideoCapture(str(tmp_path / "out.avi")).get(cv2.CAP_PROP_FPS)
    assert rate >= 10
    assert len(shown) / rate == pytest.approx(2 * Stills.SECONDS_EACH)
    bars = [int(np.flatnonzero((frame[150] < 75).all(axis=1)).mean()) for frame in shown]
    assert set(bars[: len(bars) // 2]) != set(bars[len(bars) // 2 :])
    assert len(set(bars)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGTERM], [getattr(signal, "SIGHUP", 0)], [signal.SIGINT, signal.SIGINT]],
    ids=["Ctrl-C", "terminated", "its terminal closed", "Ctrl-C by the impatient"],
)
def test_an_interrupted_recording_is_whole(
    clips: Any, signals: list[signal.Signals], files: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    flags = (
        "--source",
        files / "clip.mp4",
        "--garment",
        files / "shirt.png",
        "--bundle",
        bundle,
        "--headless",
    )
    command = [sys.executable, *MIRROR, *flags, "--realtime", "--record", out]
    with subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=-1, stderr=-1, text=True
    ) as process:
        deadline = time.monotonic() + 20
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        for one in signals:
            process.send_signal(one)
            time.sleep(0.01)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert str(out) in output
    assert 0 < len(clips.decode(out)) < clips.FRAMES + 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX terminals")
def test_a_terminal_that_closes_costs_nothing(clips: Any, files: Path, bundle: Path, tmp_path: Path) -> None:
    """Neither the recording nor what was measured, though nothing can be written to it any more."""
    out, stats = tmp_path / "out.mp4", tmp_path / "stats.json"
    wanted = ["--garment", files / "shirt.png", "--bundle", bundle, "--record", out, "--stats", stats]
    command = [sys.executable, *MIRROR, "--source", files / "clip.mp4", "--headless", "--realtime", *wanted]
    terminal, programs = os.openpty()
    with subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdin=programs, stdout=programs, stderr=programs
    ) as process:
        os.close(programs)
        deadline = time.monotonic() + 30
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)  # on a busy machine the progress bar may else be written before the signal is seen
        said = os.read(terminal, 1 << 16).decode(errors="replace")
        os.close(terminal)
        assert process.wait(30) == 0, said
    assert json.loads(stats.read_text())["frames"] > 0
    assert 0 < len(clips.decode(out)) < clips.FRAMES + 2
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "stats.json"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--source": "no/such.mp4"}, "there is no camera, file or folder no/such.mp4"),
        ({"--source": "FILES/shirt.txt"}, "not a video or picture"),
        ({"--source": "FILES/cut.mp4"}, "cut.mp4 is cut short or damaged; copy it again"),
        ({"--source": "FILES/empty.mp4"}, "empty.mp4 is empty"),
        ({"--source": "FILES/photo.heic"}, "photo.heic is a HEIC photo"),
        ({"--source": "FILES/broken.png"}, "broken.png is not a picture .* save it as JPEG or PNG"),
        ({"--source": "-1"}, "there is no camera -1: cameras are numbered from 0"),
        ({"--source": "2147483648"}, "there is no camera 2147483648"),
        ({"--source": None, "--camera": "-2"}, "there is no camera -2: cameras are numbered from 0"),
        ({"--source": "97"}, "camera 97 cannot be opened"),
        ({"--garment": "FILES/people"}, "people is a folder; give it as --garments"),
        ({"--garment": "no.png"}, "no.png does not exist"),
        ({"--garment": "FILES/shirt.txt"}, "not a picture"),
        ({"--mask": "FILES/people/person0.png"}, "person0.png is no mask: that is white on the garment"),
        ({"--mask": "FILES/small_mask.png"}, "pixels, but its photo"),
        ({"--bundle": "FILES/people"}, "has no bundle.json"),
        ({"--bundle": "FILES/clip.mp4"}, "clip.mp4 is a file, not the folder of a bundle"),
        ({"--bundle": "no/such"}, "no/such does not exist"),
        ({"--bundle": "FILES/foreign"}, "format version 99"),
        ({"--bundle": "FILES/damaged"}, "SHA-256 differs"),
        ({"--engine": "steam"}, "argument --engine: invalid choice: 'steam'"),
        ({"--size": "512x384"}, "no bundle in .* is of size 512x384; there is 64x48"),
        ({"--size": "big"}, "argument --size: 'big' is not HEIGHTxWIDTH, such as 256x192"),
        ({"--record": "no/folder/out.mp4"}, "there is no folder no/folder"),
        ({"--record": "out.gif"}, "is no video name"),
        ({"--stats": "no/folder/stats.json"}, "cannot write"),
        ({"--frames": "0"}, "--frames must be at least 1"),
        ({"--framing": "sideways"}, "--framing"),
        ({"--headless": None}, "use --headless"),
    ],
)
def test_bad_input_is_one_sentence(
    changes: dict[str, str | None], message: str, files: Path, bundle: Path, tmp_path: Path
) -> None:
    for name in ("shirt.txt", "broken.png"):
        (files / name).write_text("no picture")
    (files / "cut.mp4").write_bytes((ROOT / "models" / "clip.mp4").read_bytes()[:50_000])
    (files / "empty.mp4").touch()
    (files / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    pictures.write(files / "small_mask.png", np.pad(np.full((62, 46), 255, np.uint8), 1))
    for name in ("foreign", "damaged"):
        (files / name).mkdir(exist_ok=True)
        for path in bundle.iterdir():
            (files / name / path.name).write_bytes(path.read_bytes())
    (files / "damaged" / "tryon.onnx").write_bytes(b"half")
    manifest = files / "foreign" / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 99'))

    flags: dict[str, str | None] = {
        "--source": str(files / "clip.mp4"),
        "--garment": str(files / "shirt.png"),
        "--bundle": str(bundle),
        "--headless": "",
        "--record": str(tmp_path / "out.mp4"),
        **changes,
    }
    arguments = [
        part.replace("FILES", str(files))
        for name, value in flags.items()
        if value is not None
        for part in (name, value)
    ]
    done = run(*MIRROR, *(argument for argument in arguments if argument))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert re.match(f"error: .*{message}", done.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("flags", "worn"), [([], (40, 40, 200)), (["--light", "0.5"], (20, 20, 100))])
def test_one_photo(
    flags: list[str], worn: tuple[int, ...], files: Path, bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    person = files / "people" / "person0.png"
    flags = [*flags, "--bundle", str(bundle), "--out", str(out)]
    done = run(*TRYON, "--person", person, "--garment", files / "shirt.png", *flags)
    assert done.returncode == 0, done.stderr
    before, after = pictures.read(person), pictures.read(out)
    assert after.shape == before.shape
    np.testing.assert_array_equal(after[90, 160], worn)
    np.testing.assert_array_equal(after[:, 260:], before[:, 260:])


def test_options_of_photos_reach_what_they_are_for(
    files: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine, the size, both framings, and the mask, here of a part of the garment."""
    opening, choosing, framing = (Mock(wraps=real) for real in (engines.open, bundles.choose, Framing))
    monkeypatch.setattr(engines, "open", opening)
    monkeypatch.setattr(bundles, "choose", choosing)
    monkeypatch.setattr(tryon, "Framing", framing)
    person, shirt = files / "people" / "person0.png", files / "shirt.png"
    part = np.zeros(pictures.read(shirt).shape, np.uint8)
    part[: len(part) // 2] = 255
    pictures.write(tmp_path / "part.png", part)
    outs = [tmp_path / "whole.png", tmp_path / "upper.png", tmp_path / "filled.png"]
    keep: list[str | Path] = ["--keep-garment-framing"]
    part_alone: list[str | Path] = ["--mask", tmp_path / "part.png"]
    for out, given in zip(outs, (keep, keep + part_alone, part_alone), strict=True):
        flags = [*given, "--engine", "onnxruntime", "--size", "64x48", "--framing", "full"]
        flags += ["--person", person, "--garment", shirt, "--bundle", bundle, "--out", out]
        tryon.main([str(flag) for flag in flags])
    assert [call.args[1] for call in choosing.call_args_list] == [(64, 48)] * 3
    assert [call.args[1] for call in opening.call_args_list] == ["onnxruntime"] * 3
    assert [call.args[0] for call in framing.call_args_list] == ["full"] * 3
    before, whole, upper, filled = map(pictures.read, (person, *outs))
    assert (upper[70, 160] == whole[70, 160]).all()
    assert (upper[120, 160] == before[120, 160]).all()
    assert (whole[120, 160] != before[120, 160]).any()
    assert (filled[120, 160] != before[120, 160]).any()  # the part fills the network's picture


def test_without_smoothing_nothing_is_smoothed(
    files: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dresser, framing = Mock(wraps=Dresser), Mock(wraps=Framing)
    monkeypatch.setattr(mirror, "Dresser", dresser)
    monkeypatch.setattr(mirror, "Framing", framing)
    flags = ["--source", files / "clip.mp4", "--garment", files / "shirt.png", "--bundle", bundle]
    for more in ([], ["--no-smoothing"]):
        mirror.main([*map(str, flags), "--headless", "--frames", "2", *more])
    assert [call.args[2] is not None for call in dresser.call_args_list] == [True, False]
    assert [call.args[2] for call in framing.call_args_list] == [True, False]


def test_many_photos(files: Path, bundle: Path, tmp_path: Path) -> None:
    garments = tmp_path / "garments"
    garments.mkdir()
    for name in ("red", "blue"):
        (garments / f"{name}.png").write_bytes((files / "shirt.png").read_bytes())
    flags = ("--person", files / "people", "--garment", garments, "--bundle", bundle)
    done = run(*TRYON, *flags, "--out", tmp_path / "all")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "all").iterdir())) == 4
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("person1.png red.png\n")
    done = run(*TRYON, *flags, "--out", tmp_path / "some", "--pairs", pairs)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["person1_red.png"]
    pairs.write_text("person1.png\n")
    done = run(*TRYON, *flags, "--out", tmp_path / "none", "--pairs", pairs)
    assert done.returncode == 2
    assert "line 1" in done.stderr
    assert not (tmp_path / "none").exists()


def test_many_photos_are_checked_before_any_is_made(
    clips: Any, files: Path, bundle: Path, tmp_path: Path
) -> None:
    people = tmp_path / "people"
    people.mkdir()
    for name in ("one.png", "one.jpg"):
        pictures.write(people / name, clips.scene(0))
    long = tmp_path / "long"
    long.mkdir()
    pictures.write(long / f"{236 * 'x'}.png", clips.scene(0))
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("one.png shirt.png\ntwo.png shirt.png\n")
    for flags, message in (
        (("--garment", files / "shirt.png"), "would both be written as one_shirt.png"),
        (
            ("--person", files / "people", "--garment", files, "--mask", files / "shirt_mask.png"),
            "give a folder of masks",
        ),
        (("--garment", files, "--pairs", pairs), "two.png does not exist"),
        (("--garment", files, "--engine", "steam"), "invalid choice: 'steam' (choose from"),
        (("--garment", files, "--out", tmp_path / "out.png"), "out.png has a picture's name; many results"),
        (("--person", long, "--garment", files), "would be too long a name: rename"),
    ):
        arguments = ("--person", people, "--bundle", bundle, "--out", tmp_path / "out", *flags)
        with pytest.raises(InputError, match=re.escape(message)):
            tryon.main([str(argument) for argument in arguments])
    assert not list(tmp_path.glob("out*"))


def test_of_many_photos_broken_ones_are_left_out(
    files: Path, bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each told once; of one person in one garment, it is the program's error."""
    people, shop, out = (tmp_path / name for name in ("people", "shop", "out"))
    shutil.copytree(files / "people", people)
    (people / "broken.jpg").write_bytes(b"no picture")
    shop.mkdir()
    for name in ("red.png", "same.png"):
        shutil.copy(files / "shirt.png", shop / name)
    pictures.write(shop / "plain.png", np.full((240, 180, 3), 250, np.uint8))
    flags = ["--bundle", str(bundle), "--out"]
    with pytest.raises(InputError, match=r"4 of 9 written in .*out, 5 left out"):
        tryon.main(["--person", str(people), "--garment", str(shop), *flags, str(out)])
    assert sorted(path.name for path in out.iterdir()) == [
        f"person{number}_{name}.png" for number in range(2) for name in ("red", "same")
    ]
    assert len(caplog.messages) == 4
    for number in range(2):  # once, however many garments are put on
        assert f"person{number}.png: no face found, so its middle was dressed" in caplog.text
    assert "broken.jpg is not a picture" in caplog.text
    assert "plain.png: no garment stands out" in caplog.text
    caplog.clear()
    one = ["--person", str(people / "broken.jpg"), "--garment", str(shop / "red.png")]
    with pytest.raises(InputError, match=r"broken\.jpg is not a picture"):
        tryon.main([*one, *flags, str(tmp_path / "out.png")])
    assert not caplog.messages


def test_pairs_with_spaces_in_their_names(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("an a.jpg\t\t red shirt.png\n\nb.jpg  blue.png 1\n")
    found = pair_up(tmp_path, tmp_path, pairs)
    assert [(person.name, garment.name) for person, garment in found] == [
        ("an a.jpg", "red shirt.png"),
        ("b.jpg", "blue.png"),
    ]
    for text, message in (
        ("b.jpg blue.png\n\nan a.jpg blue.png\n", "line 3: .* put a tab between"),
        ("b.jpg\tblue.png\tc.jpg", "line 1"),
        ("\n", "is empty"),
    ):
        pairs.write_text(text)
        with pytest.raises(InputError, match=message):
            pair_up(tmp_path, tmp_path, pairs)


def test_nothing_read_is_overwritten(
    files: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever way it is named; results in a folder count one by one."""
    monkeypatch.chdir(tmp_path)
    for name in ("clip.mp4", "shirt.png", "shirt_mask.png"):
        shutil.copy(files / name, tmp_path)
    shutil.copytree(files / "people", tmp_path / "people")
    shutil.copy(files / "people" / "person1.png", tmp_path / "people" / "person0_shirt.png")
    os.link(tmp_path / "clip.mp4", tmp_path / "linked.mp4")
    (tmp_path / "here").symlink_to(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    worn = f"--garment shirt.png --mask shirt_mask.png --bundle {bundle}"
    for program, arguments, lost in (
        (mirror.main, "--source clip.mp4 --headless --record people/../clip.mp4", "clip.mp4"),
        (mirror.main, "--source clip.mp4 --headless --record linked.mp4", "linked.mp4"),
        (mirror.main, "--source clip.mp4 --headless --stats shirt.png", "shirt.png"),
        (mirror.main, "--source clip.mp4 --headless --stats shirt_mask.png", "shirt_mask.png"),
        (mirror.main, "--source people --headless --stats people/person1.png", "person1.png"),
        (mirror.main, f"--source clip.mp4 --headless --stats {bundle}/bundle.json", "bundle.json"),
        (tryon.main, "--person people/person0.png --out people/person0.png", "person0.png"),
        (tryon.main, "--person people/person0.png --out shirt_mask.png", "shirt_mask.png"),
        (tryon.main, "--person people --out people", "person0_shirt.png"),
    ):
        with pytest.raises(InputError, match=f"{lost} is read here and would be overwritten"):
            program([*arguments.split(), *worn.split()])
    for stats in ("o.mp4", "people/../o.mp4", "here/o.mp4"):
        with pytest.raises(InputError, match=f"{stats} would be written twice"):
            mirror.main(
                ["--source=clip.mp4", "--headless", "--record=o.mp4", f"--stats={stats}", *worn.split()]
            )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_result_without_a_picture_suffix_is_refused(clips: Any, files: Path, tmp_path: Path) -> None:
    """Before a bundle is looked for: it may have been meant as a folder."""
    inputs = ["--person", str(files / "people" / "person0.png"), "--garment", str(files / "shirt.png")]
    for name in ("results", "out.txt", "out.exr"):  # OpenCV knows the last, for floats
        with pytest.raises(InputError, match=f"{name} has no picture suffix such as"):
            tryon.main([*inputs, "--bundle", "no/such", "--out", str(tmp_path / name)])
        with pytest.raises(InputError, match="has no picture suffix"):
            pictures.write(tmp_path / name, clips.scene(0))
    with pytest.raises(
        InputError, match=r"a\.webp: OpenCV cannot write 17000x4 pixels as \.webp; take \.png"
    ):
        pictures.write(tmp_path / "a.webp", np.zeros((4, 17000, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_the_default_bundle(
    bundle: Path,
    identity_bundle: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment's, or the shipped one, or what was built here; otherwise a sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RMGN_BUNDLE", raising=False)
    monkeypatch.setattr(bundles, "SHIPPED", tmp_path / "models")
    with pytest.raises(InputError, match=r"no bundle in /.*models or bundles/: the model lies in a checkout"):
        bundles.choose(None, None)
    shutil.copytree(bundle, tmp_path / "bundles" / "mine")
    assert bundles.choose(None, None).folder == tmp_path / "bundles" / "mine"
    for name in ("another", "lite-256"):
        shutil.copytree(bundle, tmp_path / "models" / name)
    assert bundles.choose(None, None).folder == tmp_path / "models" / "lite-256"
    plans = tmp_path / "models" / "another" / "plans"
    plans.mkdir()
    (plans / ".tryon.tensorrt.partial.plan").touch()
    assert bundles.choose(None, None).folder == tmp_path / "models" / "lite-256", "its plan is being built"
    (plans / "tryon.tensorrt.plan").touch()
    assert bundles.choose(None, None).folder == tmp_path / "models" / "another"
    shutil.rmtree(plans)
    shutil.copytree(identity_bundle(96, 48), tmp_path / "bundles" / "tall")
    assert bundles.choose(None, (96, 48)).folder == tmp_path / "bundles" / "tall"
    with pytest.raises(InputError, match=r"is of size 32x32; there is 64x48, 96x48\. Build one with"):
        bundles.choose(None, (32, 32))
    monkeypatch.setenv("RMGN_BUNDLE", str(bundle))
    assert bundles.choose(None, None).folder == bundle
    monkeypatch.setenv("RMGN_BUNDLE", "no/such")
    with pytest.raises(InputError, match="the variable RMGN_BUNDLE names no/such"):
        bundles.choose(None, None)


def test_a_bundle_that_learnt_nothing_is_told(bundle: Path, tmp_path: Path, caplog: Any) -> None:
    assert not bundles.choose(bundle, None).provenance.get("weights")
    assert not caplog.messages
    shutil.copytree(bundle, tmp_path / "new")
    manifest = tmp_path / "new" / "bundle.json"
    content = json.loads(manifest.read_text())
    content["provenance"]["weights"] = "preset lite with random weights"
    manifest.write_text(json.dumps(content))
    bundles.choose(tmp_path / "new", None)
    assert "has preset lite with random weights: its pictures are noise" in caplog.text


def test_the_default_garments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert parse_args(["--camera", "0"]).garments == bundles.GARMENTS
    assert len(pictures.listing(bundles.GARMENTS)) > 3
    assert parse_args(["--garment", "own.png"]).garments is None
    monkeypatch.setattr(bundles, "GARMENTS", tmp_path / "none")
    with pytest.raises(InputError, match="give a garment"):
        parse_args(["--camera", "0"])


class ScriptedWindow:
    """Stands in for the screen alone: keeps what it is shown, and presses a key after every third view."""

    def __init__(self, keys: str) -> None:
        self.views: list[Pixels] = []
        self.closed = False
        self._keys = list(keys)
        self._due = 3

    def show(self, view: Pixels, sizes: bool = True) -> None:
        if sizes:
            self.views.append(view)

    def key(self) -> str:
        if len(self.views) < self._due:
            return ""
        self._due = len(self.views) + 3
        return self._keys.pop(0)

    def close(self) -> None:
        self.closed = True


def test_the_window_and_its_keys(
    clips: Any, files: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next garment, compare and back, screenshot, record and stop, quit."""
    shop = tmp_path / "shop"
    shop.mkdir()
    clips.write_shop(shop, files / "shirt.png")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    window = ScriptedWindow("nccsrrq")
    monkeypatch.setattr(screen, "Window", lambda _: window)
    person = files / "people" / "person0.png"
    mirror.main([*map(str, ("--source", person, "--garments", shop, "--bundle", bundle))])

    assert window.closed
    first, last = window.views[0], window.views[-1]
    assert first.shape == last.shape == (180, 320, 3)
    np.testing.assert_array_equal(first[90, 160], (40, 40, 200))
    np.testing.assert_array_equal(last[90, 160], (40, 200, 40))
    # As in a mirror: the scene's bar, on its left, shows on the right. The other half is the plain camera.
    assert (last[150, 300:] == 30).all()
    assert (last[150, :20] == 120).all()
    (compared, *_) = [view for view in window.views if view.shape == (180, 640, 3)]
    assert (compared[90, 160] == 120).all()
    assert compared[90, 480].max() == 200
    # The garment's photo in the top right corner, rates in the top left one.
    inset = last[2:38, -29:-2]
    assert (inset == (40, 200, 40)).all(axis=2).mean() > 0.1
    assert last[:20, :100].max() > 200  # letters are smoothed

    bare = ScriptedWindow("q")
    monkeypatch.setattr(screen, "Window", lambda fullscreen: bare if fullscreen else window)
    mirror.main([*map(str, ("--source", person, "--garments", shop, "--bundle", bundle)), "--fullscreen"])
    first_line, second_line = np.s_[2:15, :100], np.s_[18:29, :100]
    assert last[first_line].max() > 200
    assert last[second_line].max() > 200, "the garment's name, below rates"
    assert bare.views[-1][first_line].max() > 200
    assert bare.views[-1][second_line].max() < 200, "the garment's name alone"

    (screenshot,) = here.glob("mirror-*.png")
    (recording,) = here.glob("mirror-*.mp4")
    assert len(list(here.iterdir())) == 2
    assert (pictures.read(screenshot)[150, :20] == 30).all(), "not mirrored"
    assert clips.decode(recording)


HANGING_ENGINE = """
import os, shutil, signal, sys, threading
from pathlib import Path

import runtime.pipeline
from engines.onnxruntime_engine import OnnxRuntimeEngine
from runtime import mirror
from runtime.failure import run

runtime.pipeline.CLOSING_S = 0.3
infer, begin = OnnxRuntimeEngine.infer, mirror.Mirror.run
hanging = threading.Event()

def never_answer(engine, feeds):
    if hanging.is_set():
        threading.Event().wait()
    return infer(engine, feeds)

def begin_and_interrupt(self):
    hanging.set()
    if sys.argv[1]:
        shutil.rmtree(sys.argv[1])
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin(self)

OnnxRuntimeEngine.infer = never_answer
mirror.Mirror.run = begin_and_interrupt
sys.exit(run(mirror.main, sys.argv[2:]))
"""


def test_an_engine_that_hangs_holds_up_no_end(files: Path, bundle: Path, tmp_path: Path) -> None:
    """Neither with results nor with an error at the end."""
    stats = tmp_path / "folder" / "stats.json"
    stats.parent.mkdir()
    options = ["--headless", "--engine=onnxruntime", f"--source={files / 'clip.mp4'}", f"--stats={stats}"]
    worn = [f"--garment={files / 'shirt.png'}", f"--bundle={bundle}"]
    done = run("-c", HANGING_ENGINE, "", *options, *worn)
    assert (done.returncode, json.loads(stats.read_text())["frames"]) == (0, 0), done.stderr
    done = run("-c", HANGING_ENGINE, stats.parent, *options, *worn)
    assert done.returncode == 2
    assert "does not answer: the end does not wait for it" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert str(stats.parent) in done.stderr.splitlines()[-1]


def test_a_disk_that_fills_ends_the_recording_and_keeps_it(
    clips: Any,
    files: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It ends a program that was to record every frame, and no mirror that somebody looks into."""
    monkeypatch.chdir(tmp_path)
    free = iter([1 << 40] * 4 + [0] + [1 << 40] * 100)  # the target is looked at twice
    monkeypatch.setattr(recording, "free_bytes", lambda _: next(free))
    common = ["--garment", str(files / "shirt.png"), "--bundle", str(bundle), "--source"]
    with pytest.raises(InputError, match=r"out\.mp4 ends here"):
        mirror.main(
            [*common, str(files / "clip.mp4"), "--headless", "--record", "out.mp4", "--stats", "stats.json"]
        )
    assert len(clips.decode(tmp_path / "out.mp4")) == 2
    assert json.loads((tmp_path / "stats.json").read_text())["frames"] == 3
    assert "video: out.mp4" in capsys.readouterr().out

    free = iter([0])
    with pytest.raises(InputError, match=r"^cannot record out\.mp4: its disk has less than 64 MB free"):
        mirror.main([*common, "nothing.mp4", "--headless", "--record", "out.mp4"])

    free = iter([1 << 40, 1 << 40, 0])
    window = ScriptedWindow("rccccq")
    monkeypatch.setattr(screen, "Window", lambda _: window)
    mirror.main([*common, str(files / "people" / "person0.png")])
    (recorded,) = tmp_path.glob("mirror-*.mp4")
    assert clips.decode(recorded)

    free = iter([1 << 40] * 3 + [0])
    window = ScriptedWindow("ccccq")
    mirror.main([*common, str(files / "people" / "person0.png"), "--record", "asked.mp4"])
    assert clips.decode(tmp_path / "asked.mp4")

    free = iter([1 << 40] * 2 + [0])  # it has filled since the program began
    window = ScriptedWindow("ccccq")
    mirror.main([*common, str(files / "people" / "person0.png"), "--record", "never.mp4"])
    assert not (tmp_path / "never.mp4").exists()


def mirror_without_a_camera(*arguments: object) -> mirror.Mirror:
    """What the main thread does with results, for those that a test gives it."""
    options = parse_args([str(part) for part in arguments])
    source, nothing = Source.__new__(Stills), None
    return mirror.Mirror(options, source, nothing, nothing, None, None, None, True)  # type: ignore[arg-type]


def test_every_recording_begun_is_kept(
    clips: Any, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one asked for begins after one of a key; an interruption while it is checked loses neither."""
    monkeypatch.chdir(tmp_path)
    mine = mirror_without_a_camera("--garment", files / "shirt.png", "--record", "asked.mp4")
    picture = np.full((64, 64, 3), 90, np.uint8)
    mine._obey("r")  # while the window waits for the first picture
    for _ in range(2):
        mine._take(Result(0, picture, picture, None, None, 0.0, 0.0, 0.0))
        whole = Recorder._is_whole
        monkeypatch.setattr(Recorder, "_is_whole", lambda _: interrupt_once())

        def interrupt_once(whole: Callable[[Recorder], bool] = whole) -> bool:
            monkeypatch.setattr(Recorder, "_is_whole", whole)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            mine._stop_recording()
        mine._stop_recording()
    assert [path.name for path in mine._recorded][1:] == ["asked.mp4"]
    for path in mine._recorded:
        assert len(clips.decode(path)) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_a_stream_that_begins_with_a_burst_is_recorded_at_a_usual_rate(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = mirror_without_a_camera("--garment", files / "shirt.png")
    mine._lossless = False
    mine._source = camera = Camera.__new__(Camera)
    camera._times = deque(0.004 * number for number in range(60))
    assert camera.measured_fps == pytest.approx(250)
    mine._start_recording(Path("burst.mp4"))
    picture = np.full((64, 64, 3), 90, np.uint8)
    for at in (0.0, 0.5):
        mine._take(Result(0, picture, picture, None, None, at, at, 0.0))
    mine._stop_recording()
    capture = cv2.VideoCapture("burst.mp4")
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(60)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 31


def test_keys_pressed_within_a_second_write_files_of_their_own(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "mirror-20260101-000000")
    mine = mirror_without_a_camera("--garment", files / "shirt.png")
    picture = np.full((64, 64, 3), 90, np.uint8)
    mine._take(Result(0, picture, picture, None, None, 0.0, 0.0, 0.0))
    for _ in range(3):
        mine._obey("s")
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_screenshots_are_no_garments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the garments may be where the mirror writes what it is asked to keep."""
    monkeypatch.chdir(tmp_path)
    photo = np.full((60, 40, 3), 250, np.uint8)
    for name in (mirror.unused(".png"), mirror.unused(".png"), Path("mirror-dress.png")):
        pictures.write(name, photo)
    assert mirror.without_screenshots(pictures.listing(tmp_path)) == [tmp_path / "mirror-dress.png"]
    Path("mirror-dress.png").unlink()
    with pytest.raises(InputError, match="holds no garments, only the mirror's own pictures"):
        mirror.main(["--source", "0", "--garments", str(tmp_path), "--headless"])


def test_signals_break_off_nothing(files: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come, and whatever is under way, which here is the start; then the mirror ends."""
    before = [signal.getsignal(each) for each in mirror.INTERRUPTIONS]
    start, gone_on = Pipeline.start, []

    def interrupted(pipeline: Pipeline) -> None:
        start(pipeline)
        for each in 2 * mirror.INTERRUPTIONS:
            signal.raise_signal(each)
            gone_on.append(each)

    monkeypatch.setattr(Pipeline, "start", interrupted)
    person, shirt = files / "people" / "person0.png", files / "shirt.png"
    command = ["--source", person, "--garment", shirt, "--bundle", bundle, "--headless", "--realtime"]
    mirror.main([str(part) for part in command])
    assert len(gone_on) == 2 * len(mirror.INTERRUPTIONS)
    assert {thread.name for thread in threading.enumerate()}.isdisjoint({"capture", "try-on", "wardrobe"})
    assert [signal.getsignal(each) for each in mirror.INTERRUPTIONS] == before


def test_a_long_notice_keeps_its_end() -> None:
    path = "/shop" * 40 + "/shirt.jpg"
    said = screen.shortened(f"{path} is too small to be worn: 30x30 pixels")
    assert len(said) == screen.LONGEST
    assert re.fullmatch(r"/shop.* \.\.\. .*shirt.jpg is too small to be worn: 30x30 pixels", said)
    assert screen.shortened("camera 0 is gone") == "camera 0 is gone"


def test_a_window_without_a_picture_says_why() -> None:
    quiet, told = screen.waiting([]), screen.waiting(["camera 0 cannot be opened"])
    assert (quiet[:60] == 255).any(), "that it waits"
    changed = (quiet != told).any(axis=2)
    assert changed[600:].any()
    assert not changed[:600].any()


def test_what_is_wrong_stands_in_red() -> None:
    picture = np.full((360, 640, 3), 90, np.uint8)
    result = Result(0, picture, picture, None, None, 0.0, 0.0, 0.0)
    quiet = screen.view(result, ["30 fps"], [], compare=False)
    told = screen.view(result, ["30 fps"], ["camera 0 is gone, trying again", "[größer]"], compare=False)
    changed = (quiet != told).any(axis=2)
    assert changed[300:].any()
    assert not changed[:300].any()
    assert (told[changed][:, 2].astype(int) - told[changed][:, 0]).max() > 60
    assert (picture == 90).all(), "drawn on a copy"
