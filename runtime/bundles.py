"""Which bundle to run: the one asked for, or the one that comes with the project."""

import json
import logging
import os
from pathlib import Path

import engines
from engines import Bundle
from engines.bundle import MANIFEST
from engines.program import InputError

SHIPPED = Path(__file__).resolve().parent.parent / "models"
GARMENTS = SHIPPED / "garments"  # to try the mirror with
BUILT = Path("bundles")
PREFERRED = "lite-256"
VARIABLE = "RMGN_BUNDLE"
UNTRAINED = "random weights"  # in what `rmgn export --preset` says of a bundle

log = logging.getLogger(__name__)


def choose(folder: Path | None, size: tuple[int, int] | None) -> Bundle:
    """Load the bundle in `folder`, or the one of `size` (height, width) among the bundles in it.

    Without a folder: the environment's RMGN_BUNDLE, or else `models/` of the checkout, or else what
    `export/build_engine.py` wrote into `bundles/` here. Of several, one with TensorRT plans comes first (they
    were built to be used), then lite-256. Raises InputError or EngineError.
    """
    if folder is None and os.environ.get(VARIABLE):
        folder = Path(os.environ[VARIABLE])
        if not bundles_in(folder):
            raise InputError(f"the variable {VARIABLE} names {folder}, and there is no bundle")
    places = [folder] if folder else [SHIPPED, BUILT]
    folders = [
        path
        for place in places
        for path in sorted(bundles_in(place), key=lambda path: (not has_plans(path), path.name != PREFERRED))
    ]
    if not folders:
        if folder:
            return engines.load_bundle(folder)  # says what is missing
        raise InputError(
            f"there is no bundle in {SHIPPED} or {BUILT}/: the model lies in a checkout, from which "
            "`pip install -e` installs. Or name a bundle with --bundle, or build one with `rmgn export`"
        )
    if size is None:
        return _trained(engines.load_bundle(folders[0]))
    sizes = {path: read_size(path) for path in folders}
    for path, held in sizes.items():
        if held == size:
            return _trained(engines.load_bundle(path))
    searched = folder or f"{SHIPPED} and {BUILT}/"
    wanted = f"{size[0]}x{size[1]}"
    there_is = ", ".join(f"{height}x{width}" for height, width in sorted(set(sizes.values())))
    build = f"Build one with `rmgn export --size {wanted} --checkpoint FILE`, or name"
    if any(length % 32 for length in size):
        build = "Networks take multiples of 32. Name"
    raise InputError(
        f"no bundle in {searched} is of size {wanted}; there is {there_is}. {build} its folder with --bundle"
    )


def _trained(bundle: Bundle) -> Bundle:
    """The bundle; the log tells where it never learnt anything."""
    weights = str(bundle.provenance.get("weights", ""))
    if UNTRAINED in weights:
        log.warning("%s has %s: its pictures are noise", bundle.folder, weights)
    return bundle


def bundles_in(place: Path) -> list[Path]:
    """`place` itself where it is a bundle, and the bundles in it."""
    manifests = [place / MANIFEST, *sorted(place.glob(f"*/{MANIFEST}"))]
    return [manifest.parent for manifest in manifests if manifest.is_file()]


def has_plans(folder: Path) -> bool:
    """Whether TensorRT plans were built of the bundle."""
    return any((folder / "plans").glob("[!.]*.plan"))  # a hidden one is being built


def read_size(folder: Path) -> tuple[int, int]:
    """Height and width of a bundle, without verifying its graphs. Raises EngineError where it is damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return int(manifest["height"]), int(manifest["width"])
    except (ValueError, KeyError, TypeError):
        bundle = engines.load_bundle(folder)  # says what is wrong
        return bundle.height, bundle.width
