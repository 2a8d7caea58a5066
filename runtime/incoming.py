"""A garment's photo that comes from a phone or so: checked, then kept in the garments' folder."""

import os
import re
import unicodedata
from pathlib import Path

from engines.picture_files import SUFFIXES
from engines.program import InputError
from engines.whole_file import whole_file
from runtime import garment
from runtime.pictures import SCREENSHOT

LONGEST_NAME = 120  # bytes, with room for a number and the suffix in what file systems take
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)  # no names for files on Windows


def keep(data: bytes, name: str, folder: Path) -> Path:
    """Write a photo into `folder`, as a new file named like `name`, and return its path.

    data: the file's content, kept as it is. Raises InputError for what cannot be worn, OSError where it
    cannot be written; then nothing is left in the folder.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{name or 'a file without a name'} is not a picture that is known here: send JPEG or PNG"
        )
    stem = plain_name(Path(name).stem)
    if SCREENSHOT.fullmatch(stem):  # or it would pass for the mirror's own picture
        stem = f"garment-{stem}"
    path, count = folder / f"{stem}{suffix}", 1
    while os.path.lexists(path):  # a link to what is not there is no place for a new file
        count += 1
        path = folder / f"{stem}-{count}{suffix}"
    with whole_file(path) as partial:
        partial.write_bytes(data)
        try:
            garment.read(partial, None)
        except InputError as error:
            raise InputError(str(error).replace(str(partial), name)) from error
    return path


def plain_name(text: str) -> str:
    """Text as the name of a file on any system, without suffix: letters, digits, blanks, `-` and `_`."""
    name = re.sub(r"[^\w -]+", "_", unicodedata.normalize("NFC", text))
    name = name.encode()[:LONGEST_NAME].decode(errors="ignore").strip(" _-")
    return f"{name}_" if DEVICES.fullmatch(name) else name or "garment"
