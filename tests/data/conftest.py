"""A few samples, made once without assets, for all tests of the data set."""

from __future__ import annotations

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
