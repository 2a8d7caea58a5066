"""Trials of whatever a folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmgn.data.people import layers
from rmgn.folder_trials import FolderTrials
from rmgn.generated_trials import GeneratedTrials
from rmgn.trials import DataError, Setting, Trials


def open_trials(
    folder: Path,
    settings: Sequence[Setting] | None = None,
    *,
    batch: int = 4,
    pairs: Path | None = None,
    assets: Path | None = None,
    first: int | None = None,
    last: int | None = None,
    workers: int = 0,
    size: tuple[int, int] | None = None,
) -> Trials:
    """Trials of generated layers, or of a folder of photos in any known layout.

    settings: by default both for layers and "unpaired" for photos. size: (height, width), by default the
    layers' own and 256x192 for photos. Raises ValueError for a folder that lacks what is asked for.
    """
    if layers.present(folder):
        if pairs is not None:
            raise DataError(f"{folder}: generated layers take no list of pairs")
        known = settings or ("paired", "unpaired")
        return GeneratedTrials(
            folder, known, batch=batch, assets=assets, first=first, last=last, workers=workers, size=size
        )
    if assets is not None:
        raise DataError(f"{folder}: photos have surroundings of their own, --assets are for generated layers")
    known = settings or ("unpaired",)
    return FolderTrials(
        folder, known, batch=batch, pairs=pairs, first=first, last=last, workers=workers, size=size
    )
