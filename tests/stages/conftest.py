"""The module of synthetic samples, for all tests of the stages."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("accelerate", reason="training needs the extra `train`")


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """`synthetic.py` beside this file."""
    file = Path(__file__).parent / "synthetic.py"
    spec = importlib.util.spec_from_file_location("synthetic", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _new_accelerator() -> Iterator[None]:
    """Settings of an Accelerator outlive it within a process."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
