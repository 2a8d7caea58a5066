"""Shared fixtures: the released networks with deterministic weights, and small bundles."""

import importlib.util
import json
import os
import signal
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# How fast inputs are drawn is the machine's business, and no test's.
settings.register_profile("rmgn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rmgn")

if TYPE_CHECKING:  # the tests of the runtime need no torch
    import torch

    from rmgn import RMGN


def _cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


if not _cuda():
    # The kernels then run in Triton's interpreter, which must be known before Triton is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Ignored in the background of a script and under nohup, and then in every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"
State = dict[str, "torch.Tensor"]


def _beside(name: str) -> types.ModuleType:
    """A module that lies beside the tests and is none of them."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lazy() -> types.ModuleType:
    """A GPU and a TensorRT of host memory."""
    return _beside("lazy_gpu")


@pytest.fixture(scope="session")
def clips() -> types.ModuleType:
    """Makes and reads clips of a scene known by heart."""
    return _beside("clips")


@pytest.fixture(scope="module")
def files(clips: types.ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a clip, two pictures of a person and a garment with its mask."""
    folder = tmp_path_factory.mktemp("files")
    clips.write_files(folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if "gpu" in item.keywords]
    if marked and not _cuda():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def released_state() -> Callable[[str], State]:
    """A released state dict by name of its key list, such as "rmgn_warp".

    Released weights cannot be shipped. The values here follow from names and shapes alone; the same rule
    filled the released code when it computed `released_256x192.npz`.
    """

    import torch

    def make(name: str) -> State:
        keys = json.loads((REFERENCE / f"{name}_keys.json").read_text())
        state = {key: _values(key, tuple(shape)) for key, shape in keys.items()}
        for key in state:
            if key.endswith("weight_u"):  # spectral norm: the left vector that belongs to the right one
                weight, v = (state[key.replace("weight_u", part)] for part in ("weight_orig", "weight_v"))
                left = weight.reshape(len(weight), -1) @ v
                state[key] = left / np.linalg.norm(left)
        return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}

    return make


def _values(key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    if key.endswith(("weight_u", "weight_v")):
        z = z / np.linalg.norm(z)
    elif key.endswith("running_var"):
        z = 1 + 0.5 * np.abs(z)
    elif len(shape) == 4:
        z = z * (0.3 if shape[0] <= 4 else 1.2) / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(("running_mean", "bias")):
        z = 0.1 * z
    else:
        z = 1 + 0.1 * z
    return z.astype(np.float32)


@pytest.fixture(scope="session")
def released_inputs() -> State:
    """Person, garment and mask that `released_256x192.npz` was computed from."""
    import torch

    y, x = np.mgrid[0:256, 0:192].astype(np.float32)
    y, x = y / 256, x / 192
    frequencies = ((1, 2), (3, 1), (2, 5), (7, 3), (4, 4), (1, 9))
    waves = [np.sin(2 * np.pi * (fx * x + fy * y)) for fx, fy in frequencies]
    mask = (((x - 0.5) / 0.35) ** 2 + ((y - 0.5) / 0.4) ** 2 < 1)[None, None]
    arrays = {
        "person": 0.9 * np.stack(waves[:3])[None],
        "garment": 0.9 * np.stack(waves[3:])[None],
        "mask": mask,
    }
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}


@pytest.fixture(scope="session")
def released_outputs() -> dict[str, np.ndarray]:
    """What the released code computes with `released_state` from `released_inputs`."""
    with np.load(REFERENCE / "released_256x192.npz") as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}


@pytest.fixture(scope="session")
def lite() -> "RMGN":
    """The untrained lite network, but for its palette, whose masks would be even."""
    import torch

    from rmgn import PRESETS, RMGN

    torch.manual_seed(0)
    model = RMGN(PRESETS["lite"]).eval()
    torch.nn.init.normal_(model.generator.palette.mask[-1].weight)
    return model


@pytest.fixture(scope="session")
def bundle32(lite: "RMGN", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lite network as a float32 bundle at 128x96, with torch programs."""
    from export.write_bundle import write_bundle

    return write_bundle(
        lite, tmp_path_factory.mktemp("bundles") / "fp32", 128, 96, torch_programs=True
    ).folder


@pytest.fixture(scope="session")
def bundle16(lite: "RMGN", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lite network as a float16 bundle at 128x96, with torch programs."""
    from export.write_bundle import write_bundle

    out = tmp_path_factory.mktemp("bundles") / "fp16"
    return write_bundle(lite, out, 128, 96, half=True, torch_programs=True).folder


@pytest.fixture(scope="session")
def identity_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes bundles whose network lays the garment where it lies in its photo: `make(height, width)`."""
    pytest.importorskip("onnx", reason="making a bundle needs onnx (pip install 'rmgn[export]')")
    module = _beside("identity_bundle")

    def make(height: int = 64, width: int = 48, shift: float = 0.0) -> Path:
        folder = tmp_path_factory.mktemp("bundle")
        written: Path = module.write_identity_bundle(folder, height, width, shift)
        return written

    return make


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of real evaluation photos, which never come with the project; skips without them."""
    folder = os.environ.get("RMGN_REALDATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real photos are absent; RMGN_REALDATA names their folder")
    return Path(folder)
