"""Fixtures for several test files; each imports what it needs when used, so that tests run without extras."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def identity_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes bundles whose network lays the garment where it lies in its photo: `make(height, width)`."""
    pytest.importorskip("onnx", reason="making a bundle needs onnx (pip install 'rmgn[export]')")
    spec = importlib.util.spec_from_file_location("identity_bundle", HERE / "identity_bundle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(height: int = 64, width: int = 48, shift: float = 0.0) -> Path:
        folder = tmp_path_factory.mktemp("bundle")
        written: Path = module.write_identity_bundle(folder, height, width, shift)
        return written

    return make


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of real evaluation photos, which never come with the project; skips without them."""
    folder = Path(os.environ.get("RMGN_REALDATA", HERE.parent.parent / "shared" / "realdata"))
    if not folder.is_dir():
        pytest.skip("real photos are absent; RMGN_REALDATA names their folder")
    return folder
