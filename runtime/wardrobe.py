"""The garments to choose from; the next one is loaded and encoded while frames go on."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engines.program import InputError, warn_once
from runtime.dresser import Fitted
from runtime.notices import Notices
from runtime.pictures import UnreachableError

log = logging.getLogger(__name__)

RETRY_S = 1.0
GIVE_UP_S = 10.0  # until a garment that cannot be used is wanted no more
LOOK_S = 2.0  # between looks at what is in the folder
CLOSING_S = 5.0


class Entry(NamedTuple):
    """A garment's photo, and what told its file from what it was before."""

    path: Path
    version: tuple[int, int] | None


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
        self._entries = dict(enumerate(map(entry_of, paths)))
        self._next = len(paths)  # number
        self._broken: set[int] = set()
        self._given_up: int | None = None  # wanted, but tried no more
        self._asked_at = 0.0  # when `_wanted` was last asked for
        self._prepare = prepare
        self._notices = notices
        self._listing = listing
        self._worn, self._ready = self._first(1 if asked_for else len(paths))
        self._wanted = self._worn
        self._changed = threading.Condition()
        self._looking = threading.Lock()
        self._closed = threading.Event()
        # Daemons: photos may lie on a network drive that hangs, and the end does not wait for it.
        self._threads = [threading.Thread(target=self._work, name="wardrobe", daemon=True)]
        if listing is not None:
            self._threads.append(threading.Thread(target=self._look, name="garments' folder", daemon=True))

    def _first(self, tries: int) -> tuple[int, Fitted | None]:
        """The first garment of `tries` that works, and its number."""
        failures: list[InputError] = []
        for number, entry in list(self._entries.items())[:tries]:
            try:
                return number, self._prepare(entry.path)
            except InputError as error:
                failures.append(error)
                self._note_broken(number, error)
                if tries > 1:
                    warn_once(f"left out: {error}")
        raise failures[0]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    @property
    def paths(self) -> Mapping[int, Path]:
        """The garments' photos by number, in their order."""
        return {number: entry.path for number, entry in self._entries.items()}

    @property
    def on_offer(self) -> Mapping[int, Path]:
        """`paths` without those that were found broken; mended, a file is another garment."""
        return {number: path for number, path in self.paths.items() if number not in self._broken}

    @property
    def wanted(self) -> int:
        """The number of the garment asked for last."""
        return self._wanted

    @property
    def chosen(self) -> int:
        """The number of the garment asked for last, or of the one worn where that is broken.

        A garment worn whose photo has changed or gone has no number any more.
        """
        with self._changed:
            worn = self._wanted in self._broken and self._worn in self._entries
            return self._worn if worn else self._wanted

    def set_broken(self, number: int, error: Exception) -> None:
        """Offer a garment no more, whose photo could not be used, where that is the photo's own fault."""
        with self._changed:
            self._note_broken(number, error)

    def _note_broken(self, number: int, error: Exception) -> None:
        if isinstance(error, InputError) and not isinstance(error, UnreachableError):
            self._broken.add(number)

    def select(self, step: int) -> None:
        """Ask for the garment `step` places after the one asked for last; goes round at the ends."""
        with self._changed:
            numbers = [n for n in self._entries if n == self._wanted or n not in self._broken]
            self._want(numbers[(numbers.index(self._wanted) + step) % len(numbers)])

    def choose(self, number: int) -> None:
        """Ask for a garment by its number; nothing happens where it is gone."""
        with self._changed:
            if number in self._entries:
                self._want(number)

    def _want(self, number: int) -> None:
        self._wanted, self._given_up, self._asked_at = number, None, time.monotonic()
        self._changed.notify_all()

    def choose_new(self, path: Path) -> None:
        """Ask for a garment whose photo has just come into the folder."""
        with suppress(OSError):
            self.look_again()
        with self._changed:
            for number, entry in self._entries.items():
                if entry.path == path:
                    self._want(number)
                    break

    def take(self) -> Fitted | None:
        """The garment that has become ready since the last call."""
        with self._changed:
            ready, self._ready = self._ready, None
            return ready

    def look_again(self) -> None:
        """Take up garments that have come or changed, and leave out those that are gone.

        The one asked for last stays until another is asked for. Raises OSError where the folder cannot be
        listed, such as a network drive that is away; then all stay.
        """
        if self._listing is None:
            return
        with self._looking:  # one after the other, since what was listed first may be old
            listed = []
            for path in self._listing():
                with suppress(FileNotFoundError):
                    listed.append(Entry(path, version(path)))
            self._take_up(listed)

    def _take_up(self, listed: list[Entry]) -> None:
        with self._changed:
            known = {entry: number for number, entry in self._entries.items()}
            place, asked_for = list(self._entries).index(self._wanted), self._entries[self._wanted]
            wanted, entries = None, []
            for entry in listed:
                number = known.get(entry)
                if number is None:
                    number, self._next = self._next, self._next + 1
                entries.append((number, entry))
                if entry.path == asked_for.path:  # changed, it is prepared again
                    wanted = number
            if wanted is None:
                wanted = self._wanted
                entries.insert(place, (wanted, asked_for))
            self._entries, self._wanted = dict(entries), wanted
            self._changed.notify_all()

    def close(self) -> None:
        """Stop and join the threads, unless they hang."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(CLOSING_S)

    def _look(self) -> None:
        away = False
        while not self._closed.wait(LOOK_S):
            try:
                self.look_again()
            except OSError as error:  # told in the log alone: those before the mirror miss nothing
                if not away:
                    log.warning("garments' folder: %s; what was there stays on offer", error)
                away = True
            except Exception as error:  # the garments that are known go on
                self._notices.set("garments' folder", str(error))
            else:
                self._notices.clear("garments' folder")
                if away:
                    log.warning("garments' folder: there again")
                away = False

    def _work(self) -> None:
        failed: Entry | None = None  # what could not be used
        since = 0.0  # when that was found
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed.is_set() or self._wanted not in (self._worn, self._given_up)
                )
                if self._closed.is_set():
                    return
                wanted, entry = self._wanted, self._entries[self._wanted]
            try:
                fitted = self._prepare(entry.path)
            except Exception as error:  # whatever a decoder or an engine raises: the garment before stays on
                self._notices.set("garment", str(error))
                if entry != failed:
                    failed, since = entry, time.monotonic()
                with self._changed:
                    self._note_broken(wanted, error)
                    # The file may be mended: it is tried until another is wanted, or for a while.
                    self._changed.wait_for(
                        lambda: self._closed.is_set() or self._wanted != wanted,  # noqa: B023
                        RETRY_S,
                    )
                    tried_s = time.monotonic() - max(since, self._asked_at)
                    lost = isinstance(error, InputError) and tried_s > GIVE_UP_S
                    if lost and self._wanted == wanted:
                        # What is worn stays on, also where its photo has changed or gone.
                        self._given_up = wanted
                        self._wanted = self._worn if self._worn in self._entries else wanted
                    if self._wanted in (self._worn, self._given_up):
                        self._notices.drop("garment")
                continue
            if failed is not None and entry.path == failed.path:
                self._notices.clear("garment")
            else:
                self._notices.drop("garment")
            failed = None
            with self._changed:
                self._broken.discard(wanted)
                if self._wanted != self._worn:  # else whoever asked for it has gone back meanwhile
                    self._worn, self._ready = wanted, fitted


def version(path: Path) -> tuple[int, int]:
    """What tells a file from what it was before. Raises OSError."""
    about = path.stat()
    return about.st_mtime_ns, about.st_size


def entry_of(path: Path) -> Entry:
    """A photo as it is now; without a version where it cannot be looked at."""
    try:
        return Entry(path, version(path))
    except OSError:
        return Entry(path, None)


def in_order(first: Path | None, others: Iterable[Path]) -> list[Path]:
    """Photos, each once: one that was given by name comes first, and may be one of the others."""
    if first is None:
        return list(others)
    known = first.resolve()
    return [first, *(path for path in others if path.resolve() != known)]
