"""The garments to choose from; the next one is loaded and encoded while frames go on."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from engines.program import InputError
from runtime.dresser import Fitted
from runtime.notices import Notices

log = logging.getLogger(__name__)

RETRY_S = 1.0


class Wardrobe:
    """Owns the thread that prepares garments. `select`, `choose` and `take` may come from any."""

    def __init__(
        self, paths: list[Path], prepare: Callable[[Path], Fitted], notices: Notices, asked_for: bool = True
    ) -> None:
        """Prepares the first garment at once; where it was not asked for by name, the first that works.

        Raises what `prepare` raises, of the first garment where none works.
        """
        self._paths = paths
        self._prepare = prepare
        self._notices = notices
        self._index, self._ready = self._first(1 if asked_for else len(paths))
        self._wanted = self._index
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="wardrobe")

    def _first(self, tries: int) -> tuple[int, Fitted | None]:
        """The first garment of `tries` that works, and its number."""
        failures: list[InputError] = []
        for index, path in enumerate(self._paths[:tries]):
            try:
                return index, self._prepare(path)
            except InputError as error:
                failures.append(error)
                if tries > 1:
                    log.warning("left out: %s", error)
        raise failures[0]

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def paths(self) -> list[Path]:
        """The garments' photos."""
        return self._paths

    @property
    def wanted(self) -> int:
        """The number of the garment asked for last."""
        return self._wanted

    def select(self, step: int) -> None:
        """Ask for the garment `step` places after the one asked for last; goes round at the ends."""
        with self._changed:
            self._wanted = (self._wanted + step) % len(self._paths)
            self._changed.notify_all()

    def choose(self, index: int) -> None:
        """Ask for a garment by its number."""
        with self._changed:
            self._wanted = index
            self._changed.notify_all()

    def take(self) -> Fitted | None:
        """The garment that has become ready since the last call."""
        with self._changed:
            ready, self._ready = self._ready, None
            return ready

    def close(self) -> None:
        """Stop and join the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._wanted != self._index)
                if self._closed:
                    return
                wanted = self._wanted
            try:
                fitted = self._prepare(self._paths[wanted])
            except Exception as error:  # whatever a decoder or an engine raises: the garment before stays on
                self._notices.set("garment", str(error))
                with self._changed:
                    # The file may be mended: it is tried until another is wanted.
                    self._changed.wait_for(lambda: self._closed or self._wanted != wanted, RETRY_S)  # noqa: B023
                    if self._wanted == self._index:
                        self._notices.clear("garment")
                continue
            self._notices.clear("garment")
            with self._changed:
                self._index, self._ready = wanted, fitted
