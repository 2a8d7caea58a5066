"""Open a bundle on the best backend at hand and try garments on with it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

from engines.bundle import Bundle, load
from engines.protocol import Array, Engine, EngineError

log = logging.getLogger(__name__)

# Best first. Each module has `open_engine(bundle, graph) -> Engine`, which raises ImportError where its
# library is missing and EngineError where it cannot run this bundle on this machine.
BACKENDS = {
    "tensorrt": "engines.tensorrt_engine",
    "openvino": "engines.openvino_engine",
    "onnxruntime": "engines.onnxruntime_engine",
    "torch": "engines.torch_engine",
}
EXTRAS = {"tensorrt": "tensorrt-rtx", "openvino": "openvino", "onnxruntime": "", "torch": "train"}


class _Backend(Protocol):
    def open_engine(self, bundle: Bundle, graph: str) -> Engine: ...


class Session:
    """A bundle opened on one backend: `encode` a garment, `wear` it, `run` frames.

    `encode` may be called from another thread than `wear` and `run`, so that the next garment is
    prepared while frames go on.
    """

    def __init__(self, bundle: Bundle, backend: str, garment: Engine, tryon: Engine, reason: str) -> None:
        self.bundle = bundle
        self.backend = backend
        self.reason = reason
        self.garment = garment
        self.tryon = tryon

    def encode(self, garment: Array, mask: Array) -> dict[str, Array]:
        """Compute what depends on the garment alone.

        garment: [1, 3, H, W], RGB in [-1, 1]; mask: [1, 1, H, W] in {0, 1}.
        Returns the inputs that `wear` takes: garment, garment_mask and the feature pyramid.
        """
        feeds = {"garment": garment, "garment_mask": mask}
        return {**feeds, **self.garment.run(feeds)}

    def wear(self, encoded: Mapping[str, Array]) -> None:
        """Try this encoded garment on in all following runs."""
        self.tryon.bind(encoded)

    def run(self, person: Array) -> dict[str, Array]:
        """Dress one frame in the garment worn.

        person: [1, 3, H, W], RGB in [-1, 1].
        Returns `flow` [1, 2, H, W] (x, y sampling grid in [-1, 1], align_corners False), `rendered` and
        `tryon` [1, 3, H, W] in [-1, 1], `composite_mask` [1, 1, H, W] in [0, 1].
        """
        return self.tryon.run({"person": person})

    def close(self) -> None:
        """Free both engines."""
        self.garment.close()
        self.tryon.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(bundle: str | Path | Bundle, backend: str = "auto") -> Session:
    """Open a bundle on `backend`, or with "auto" on the first of BACKENDS that is installed and works.

    The session's `reason` says why this one was taken and the others were not.
    Raises EngineError for a bad bundle, an unknown backend, or when none can run.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise EngineError(f"unknown engine {backend!r}; choose one of: auto, {', '.join(BACKENDS)}")
    loaded = bundle if isinstance(bundle, Bundle) else load(bundle)
    skipped: list[str] = []
    for name in BACKENDS if backend == "auto" else [backend]:
        try:
            module = cast(_Backend, importlib.import_module(BACKENDS[name]))
            garment = module.open_engine(loaded, "garment")
            tryon = module.open_engine(loaded, "tryon")
        except ImportError as error:
            extra = f" (pip install 'rmgn[{EXTRAS[name]}]')" if EXTRAS[name] else ""
            skipped.append(f"{name}: {error.name or error} is not installed{extra}")
            continue
        except EngineError as error:
            skipped.append(f"{name}: {error}")
            continue
        reason = "asked for" if backend != "auto" else "the fastest that works here"
        if skipped:
            reason += "; skipped " + "; ".join(skipped)
        log.info("engine %s: %s", name, reason)
        return Session(loaded, name, garment, tryon, reason)
    raise EngineError(f"no engine can run {loaded.folder}: " + "; ".join(skipped))
