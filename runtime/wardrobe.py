"""The garments to choose from; the next one is loaded and encoded while frames go on."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from engines.program import InputError
from runtime.dresser import Fitted
from runtime.notices import Notices

log = logging.getLogger(__name__)

RETRY_S = 1.0
LOOK_S = 2.0  # between looks at what is in the folder


class Wardrobe:
    """Owns the thread that prepares garments. Its other methods may come from any thread.

    Each garment has a number, which stays its own while the program runs: garments may come and go meanwhile.
    """

    def __init__(
        self,
        paths: list[Path],
        prepare: Callable[[Path], Fitted],
        notices: Notices,
        asked_for: bool = True,
        listing: Callable[[], list[Path]] | None = None,
    ) -> None:
        """Prepares the first garment at once; where it was not asked for by name, the first that works.

        listing: gives the photos there are now; asked every LOOK_S, so that new ones are taken up, changed
        ones again, and those that are gone left out. OSError: all stay.
        Raises what `prepare` raises, of the first garment where none works.
        """
        self._paths = dict(enumerate(paths))
        self._versions = [version(path) for path in paths]  # by number
        self._prepare = prepare
        self._notices = notices
        self._listing = listing
        self._worn, self._ready = self._first(1 if asked_for else len(paths))
        self._wanted = self._worn
        self._changed = threading.Condition()
        self._looking = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="wardrobe")

    def _first(self, tries: int) -> tuple[int, Fitted | None]:
        """The first garment of `tries` that works, and its number."""
        failures: list[InputError] = []
        for number, path in list(self._paths.items())[:tries]:
            try:
                return number, self._prepare(path)
            except InputError as error:
                failures.append(error)
                if tries > 1:
                    log.warning("left out: %s", error)
        raise failures[0]

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def paths(self) -> Mapping[int, Path]:
        """The garments' photos by number, in their order."""
        return self._paths

    @property
    def wanted(self) -> int:
        """The number of the garment asked for last."""
        return self._wanted

    def select(self, step: int) -> None:
        """Ask for the garment `step` places after the one asked for last; goes round at the ends."""
        with self._changed:
            numbers = list(self._paths)
            self._wanted = numbers[(numbers.index(self._wanted) + step) % len(numbers)]
            self._changed.notify_all()

    def choose(self, number: int) -> None:
        """Ask for a garment by its number. Raises KeyError where it is gone."""
        with self._changed:
            self._paths[number]
            self._wanted = number
            self._changed.notify_all()

    def take(self) -> Fitted | None:
        """The garment that has become ready since the last call."""
        with self._changed:
            ready, self._ready = self._ready, None
            return ready

    def look_again(self) -> None:
        """Take up garments that have come or changed, and leave out those that are gone.

        The one asked for last stays until another is asked for.
        """
        if self._listing is None:
            return
        with self._looking:  # one after the other, since what was listed first may be old
            try:
                listed = {path: version(path) for path in self._listing()}
            except OSError:  # such as a network drive that is away
                return
            self._take_up(listed)

    def _take_up(self, listed: Mapping[Path, tuple[int, int] | None]) -> None:
        with self._changed:
            known = {(path, self._versions[number]): number for number, path in self._paths.items()}
            paths: dict[int, Path] = {}
            for path, state in listed.items():
                number = known.get((path, state), len(self._versions))
                if number == len(self._versions):
                    self._versions.append(state)
                paths[number] = path
                if path == self._paths[self._wanted]:  # changed, it is prepared again
                    self._wanted = number
            if self._wanted not in paths:
                entries = list(paths.items())
                entries.insert(
                    list(self._paths).index(self._wanted), (self._wanted, self._paths[self._wanted])
                )
                paths = dict(entries)
            self._paths = paths
            self._changed.notify_all()

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
                due = self._changed.wait_for(
                    lambda: self._closed or self._wanted != self._worn,
                    None if self._listing is None else LOOK_S,
                )
                if self._closed:
                    return
                wanted, path = self._wanted, self._paths[self._wanted]
            if not due:
                self.look_again()
                continue
            try:
                fitted = self._prepare(path)
            except Exception as error:  # whatever a decoder or an engine raises: the garment before stays on
                self._notices.set("garment", str(error))
                with self._changed:
                    # The file may be mended: it is tried until another is wanted.
                    self._changed.wait_for(lambda: self._closed or self._wanted != wanted, RETRY_S)  # noqa: B023
                    if self._wanted == self._worn:
                        self._notices.clear("garment")
                self.look_again()
                continue
            self._notices.clear("garment")
            with self._changed:
                self._worn, self._ready = wanted, fitted


def version(path: Path) -> tuple[int, int] | None:
    """What tells a file from what it was before, None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size


def in_order(first: Path | None, others: Iterable[Path]) -> list[Path]:
    """Photos, each once: one that was given by name comes first, and may be one of the others."""
    if first is None:
        return list(others)
    known = first.resolve()
    return [first, *(path for path in others if path.resolve() != known)]
