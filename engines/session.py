"""Open a bundle on the best backend at hand and try garments on with it."""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

import numpy as np

from engines import reference
from engines.bundle import Bundle, load
from engines.protocol import Array, Engine, EngineError

log = logging.getLogger(__name__)

# In the order in which they are asked. Each module has `open_engine(bundle, graph) -> Engine`, which raises
# ImportError where its library is missing and EngineError where it cannot run this bundle on this machine.
BACKENDS = {
    "tensorrt": "engines.tensorrt_engine",
    "openvino": "engines.openvino_engine",
    "onnxruntime": "engines.onnxruntime_engine",
    "torch": "engines.torch_engine",
}
MEASURED_FRAMES, MEASURED_SECONDS = 5, 0.3  # of each engine, to choose one
EXTRAS = {"tensorrt": "tensorrt-rtx", "openvino": "openvino", "onnxruntime": "", "torch": "train"}


class _Backend(Protocol):
    def open_engine(self, bundle: Bundle, graph: str) -> Engine: ...


class Session:
    """A bundle opened on one backend: `encode` a garment, `wear` it, `run` frames.

    `encode` may be called from another thread than the rest, so that the next garment is prepared while
    frames go on.
    """

    def __init__(
        self, bundle: Bundle, backend: str, garment: Engine, tryon: Engine, reason: str = "asked for"
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.reason = reason
        self.garment = garment
        self.tryon = tryon
        self._asked = backend
        self._worn: Mapping[str, Array] = {}
        self._encoding = threading.Lock()

    def encode(self, garment: Array, mask: Array) -> dict[str, Array]:
        """Compute what depends on the garment alone.

        garment: [1, 3, H, W], RGB in [-1, 1]; mask: [1, 1, H, W] in {0, 1}.
        Returns the inputs that `wear` takes: garment, garment_mask and the feature pyramid.
        """
        feeds = {"garment": garment, "garment_mask": mask}
        with self._encoding:
            self.garment.check(feeds)
            # Copies, since the caller's arrays may hold the next garment before this one is worn.
            feeds = {name: np.array(value) for name, value in feeds.items()}
            return {**feeds, **self.garment.run(feeds)}

    def wear(self, encoded: Mapping[str, Array]) -> None:
        """Try this encoded garment on in all following runs.

        encoded: all that `encode` returns. Raises ValueError for anything else, and the garment worn stays.
        """
        self.tryon.require({"person", *encoded})
        self.tryon.bind(encoded)
        self._worn = dict(encoded)

    def run(self, person: Array) -> dict[str, Array]:
        """Dress one frame in the garment worn.

        person: [1, 3, H, W], RGB in [-1, 1].
        Returns `flow` [1, 2, H, W] (x, y sampling grid in [-1, 1], align_corners False), `rendered` and
        `tryon` [1, 3, H, W] in [-1, 1], `composite_mask` [1, 1, H, W] in [0, 1].
        """
        return self.begin(person)()

    def begin(self, person: Array) -> Callable[[], dict[str, Array]]:
        """Begin a frame; the function returned waits for what `run` returns (see Engine.begin)."""
        return self.tryon.begin({"person": person})

    def verify(self) -> None:
        """Run the bundle's reference, where it has one; raises EngineError where the results are others."""
        part = self.bundle.reference
        if part is None:
            return
        try:
            known = reference.read(self.bundle.folder / part.file)
        except (OSError, ValueError, KeyError) as error:
            raise EngineError(f"{self.bundle.folder / part.file} is no reference: {error}") from error
        # Fed, not bound: a session begins without a garment.
        feeds = {"person": known.person, **self.encode(known.garment, known.garment_mask)}
        wrong = reference.complaint(
            known.results, self.tryon.run(feeds), reference.LIMITS[self.bundle.precision]
        )
        if wrong:
            raise EngineError(wrong)

    def reopen(self) -> None:
        """Open the bundle anew, as `open` was asked to, and put the garment worn back on.

        For an engine that fails again and again: its library or its GPU may have to begin afresh, and "auto"
        takes another one where it cannot. Nothing may be under way. Raises EngineError where none can run, or
        where another bundle has taken the folder, whose networks do not go with the garments encoded so far;
        the session then stays closed until a later call succeeds.
        """
        with self._encoding:
            with contextlib.suppress(Exception):  # what is broken need not close
                self.close()
            bundle = load(self.bundle.folder)
            if bundle.digest() != self.bundle.digest():
                raise EngineError(
                    f"{bundle.folder} holds another bundle than when it was opened: start this program again"
                )
            fresh = open(bundle, self._asked)
            self.backend, self.reason = fresh.backend, fresh.reason
            self.garment, self.tryon = fresh.garment, fresh.tryon
        if self._worn:
            self.tryon.bind(self._worn)

    def close(self) -> None:
        """Free both engines."""
        try:
            self.garment.close()
        finally:
            self.tryon.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open(bundle: str | Path | Bundle, backend: str = "auto", verify: bool = True) -> Session:
    """Open a bundle on `backend`, or with "auto" on the one that is fastest here.

    TensorRT is taken where it works; of the others a frame or more is timed. One that does not compute the
    bundle's reference (see engines.reference) does not work; verify: False for those who compare by
    themselves. The session's `reason` says what was measured, and why those that were not taken into account
    were left out.
    Raises EngineError for a bad bundle, an unknown backend, or when none can run.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise EngineError(f"unknown engine {backend!r}; choose one of: auto, {', '.join(BACKENDS)}")
    loaded = bundle if isinstance(bundle, Bundle) else load(bundle)
    sessions: list[Session] = []
    skipped: list[str] = []
    for name in _candidates(loaded) if backend == "auto" else [backend]:
        try:
            sessions.append(_open_one(loaded, name, verify))
        except ModuleNotFoundError as error:
            extra = f" (pip install 'rmgn[{EXTRAS[name]}]')" if EXTRAS[name] else ""
            skipped.append(f"{name}: {error.name or error} is not installed{extra}")
        except Exception as error:  # whatever a broken library raises: the others may work
            log.debug("engine %s", name, exc_info=True)
            skipped.append(f"{name}: {error}")
        if sessions and name == "tensorrt":
            break
    if not sessions:
        raise EngineError(f"no engine can run {loaded.folder}: " + "; ".join(skipped))
    session, reason = (sessions[0], "the first that works here") if len(sessions) == 1 else _fastest(sessions)
    session._asked = backend
    session.reason = "; skipped ".join(["asked for" if backend != "auto" else reason, *skipped])
    log.info("engine %s: %s", session.backend, session.reason)
    return session


def _candidates(bundle: Bundle) -> list[str]:
    """Backends that the bundle has graphs for: few have torch programs, which nobody misses in the rest."""
    return [name for name in BACKENDS if name != "torch" or _has_programs(bundle)]


def _has_programs(bundle: Bundle) -> bool:
    return "garment.torch" in bundle.graphs


def _open_one(bundle: Bundle, name: str, verify: bool) -> Session:
    if name == "torch" and not _has_programs(bundle):
        # Said before PyTorch is imported, which takes a second and 400 MB.
        raise EngineError(f"{bundle.folder} holds no torch programs; export it again with --torch")
    module = cast(_Backend, importlib.import_module(BACKENDS[name]))
    return open_graphs(bundle, name, lambda graph: module.open_engine(bundle, graph), verify)


def open_graphs(
    bundle: Bundle, backend: str, open_graph: Callable[[str], Engine], verify: bool = False
) -> Session:
    """A session of the engines that `open_graph` opens for "garment" and "tryon"; verify: see Session.verify.

    Where something fails, what is open is closed again.
    """
    with contextlib.ExitStack() as opened:
        garment, tryon = (
            opened.enter_context(contextlib.closing(open_graph(graph))) for graph in ("garment", "tryon")
        )
        session = Session(bundle, backend, garment, tryon)
        if verify:
            session.verify()
        opened.pop_all()
    return session


def _fastest(sessions: Sequence[Session]) -> tuple[Session, str]:
    """The session with the fastest frame, and what was measured. The others are closed.

    Raises EngineError where none can run a frame.
    """
    seconds: dict[Session, float] = {}
    failed: list[str] = []
    for session in sessions:
        try:
            seconds[session] = _frame_seconds(session.tryon)
        except Exception as error:  # whatever a library raises: the others may work
            failed.append(f"; {session.backend} failed: {error}")
    best = min(seconds, key=lambda session: seconds[session], default=None)
    for session in sessions:
        if session is not best:
            session.close()
    if best is None:
        raise EngineError(f"no engine can run {sessions[0].bundle.folder}" + "".join(failed))
    times = ", ".join(f"{session.backend} {1000 * value:.0f}" for session, value in seconds.items())
    return best, f"the fastest, by milliseconds a frame: {times}" + "".join(failed)


def _frame_seconds(engine: Engine) -> float:
    """The least time of a run, after a first one, of up to MEASURED_FRAMES that begin in MEASURED_SECONDS."""
    random = np.random.default_rng(0)
    feeds = {spec.name: random.uniform(-1, 1, spec.shape).astype(np.float32) for spec in engine.inputs}
    engine.run(feeds)
    times: list[float] = []
    while len(times) < MEASURED_FRAMES and sum(times) < MEASURED_SECONDS:
        begun = time.perf_counter()
        engine.run(feeds)
        times.append(time.perf_counter() - begun)
    return min(times)
