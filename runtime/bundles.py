"""Which bundle to run: the one asked for, or the one that comes with the project."""

import os
import re
from pathlib import Path

import engines
from engines import Bundle
from runtime.failure import InputError

DEFAULT = Path(__file__).resolve().parent.parent / "models"
PREFERRED = "lite-256"
VARIABLE = "RMGN_BUNDLE"


def choose(folder: Path | None, size: tuple[int, int] | None) -> Bundle:
    """Load the bundle in `folder`, or the one of `size` (height, width) among the bundles in it.

    Without a folder: the environment's RMGN_BUNDLE, or `models/` of the checkout, where lite-256 comes first.
    Raises InputError or EngineError.
    """
    chosen = folder or Path(os.environ.get(VARIABLE) or DEFAULT)
    manifests = [chosen / "bundle.json", *sorted(chosen.glob("*/bundle.json"))]
    folders = [manifest.parent for manifest in manifests if manifest.is_file()]
    if not folders and folder is None and VARIABLE not in os.environ:
        raise InputError("there is no bundle in models/; build one with `python export/build_engine.py`")
    folders.sort(key=lambda path: path.name != PREFERRED)
    if not folders or (size is None and len(folders) == 1):
        return engines.load_bundle(chosen if not folders else folders[0])
    bundles = [engines.load_bundle(path) for path in folders]
    if size is None:
        return bundles[0]
    for bundle in bundles:
        if (bundle.height, bundle.width) == size:
            return bundle
    held = ", ".join(f"{bundle.height}x{bundle.width}" for bundle in bundles)
    raise InputError(f"no bundle in {chosen} is of size {size[0]}x{size[1]}; there is {held}")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from text such as 256x192. Raises InputError."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise InputError(f"--size {text} is not HEIGHTxWIDTH, such as 256x192")
    return int(match[1]), int(match[2])
