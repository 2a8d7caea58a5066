"""A few samples, made once without assets, for all tests of the data set."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("anny", reason="generated people need the extra `datagen`")
pytest.importorskip("embreex", reason="generated people need the extra `datagen`")

COUNT = 3


@pytest.fixture(scope="session")
def layers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples of seed 11."""
    from rmgn.data.generate import Order, generate

    folder = tmp_path_factory.mktemp("layers")
    generate(Order(str(folder), COUNT, seed=11), progress=False)
    return folder


@pytest.fixture(scope="session")
def pictures_folder(layers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three samples as pictures: six persons."""
    from rmgn.data.generated import GeneratedPeople
    from rmgn.data.pictures import write_pictures

    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(GeneratedPeople(layers_folder, seed=3, flip=False), folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def published(pictures_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The six persons in a published layout, by the name of a function of `published.py`: read only."""
    spec = importlib.util.spec_from_file_location("published", Path(__file__).with_name("published.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    source = module.Source(pictures_folder)

    @functools.cache
    def folder(layout: str) -> Path:
        made: Path = getattr(module, layout)(source, tmp_path_factory.mktemp(layout))
        return made

    return folder
