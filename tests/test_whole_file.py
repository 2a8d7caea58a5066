"""Files that appear whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from engines.program import InputError
from engines.whole_file import check_folder, check_writable, naming, partial_path, whole_file, write_whole
from rmgn import PRESETS, RMGN, checkpoint


def test_a_file_appears_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("before")
    with whole_file(file) as partial:
        assert partial.name == ".a.partial.json"
        partial.write_text("after")
        assert file.read_text() == "before"
    assert file.read_text() == "after"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "a.json"
    file.write_text("before")

    def fail() -> None:
        with whole_file(file) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"a folder cannot be replaced")
    assert list(tmp_path.iterdir()) == [file]
    assert not partial_path(tmp_path).exists()


def test_what_a_disk_refuses_at_last_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network drives and broken disks tell so only when what was written has to be there."""

    def refuse(number: int) -> None:
        assert os.fstat(number).st_size == len("after")
        raise OSError(errno.EIO, "Input/output error")

    file = tmp_path / "a.json"
    file.write_text("before")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"Input/output error: .*a\.json"):
        write_whole(file, b"after")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes are POSIX's")
def test_links_stay_and_pipes_are_refused(tmp_path: Path) -> None:
    real, link, pipe, circle = (tmp_path / name for name in ("real.json", "link.json", "pipe.json", "circle"))
    real.write_text("before")
    link.symlink_to("real.json")
    check_writable(link)
    write_whole(link, b"after")
    assert link.is_symlink()
    assert real.read_text() == "after"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"pipe\.json is no regular file"):
        check_writable(pipe)
    with pytest.raises(FileExistsError, match=r"is no regular file: '.*pipe\.json'"):
        write_whole(pipe, b"")
    assert pipe.is_fifo()
    circle.symlink_to("circle")
    with pytest.raises(InputError, match=r"cannot write .*circle"):
        check_writable(circle)
    assert sorted(tmp_path.iterdir()) == [circle, link, pipe, real]


def test_an_error_while_a_file_is_written_names_it(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"No space left on device: .*json"),
        whole_file(tmp_path / "a.json"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"No space left on device: .*bundle"), naming(tmp_path / "bundle"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError, match=r"other'$"), naming(tmp_path / "bundle"):
        raise FileNotFoundError(errno.ENOENT, "not there", "other")


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_files_have_the_users_permissions(tmp_path: Path) -> None:
    """Of checkpoints too, which another library writes."""
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", b"")
        checkpoint.save(RMGN(PRESETS["lite"]), tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    for name in ("a.txt", "a.safetensors"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


def test_where_nothing_can_be_written_is_told_before(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(InputError, match=f"^cannot write into {folder}"):
            check_folder(folder)
    check_folder(tmp_path / "new" / "below")
    check_folder(tmp_path)
    for path in (tmp_path, tmp_path / "no" / "a.txt", Path("/proc/a.txt")):
        with pytest.raises(InputError, match=str(path)):
            check_writable(path)
    with pytest.raises(InputError, match="cannot write into /proc/a"):
        check_folder(Path("/proc/a"))
    check_writable(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == [file]
    with whole_file(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        check_writable(tmp_path / "a.txt")  # by a second program
        assert partial.read_text() == "half"
