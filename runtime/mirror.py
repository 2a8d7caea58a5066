"""The try-on mirror.

    python runtime/mirror.py --camera 0                         # with the garments that come with it
    python runtime/mirror.py --camera 0 --garment shirt.jpg
    python runtime/mirror.py --source clip.mp4 --garment shirt.jpg --headless --record out.mp4

A mirror in a shop: garments of a folder, a screen that hangs upright, a phone as remote control.

    python runtime/mirror.py --camera 0 --garments DIR --fullscreen --aspect 9:16 --idle 30 --web 0.0.0.0:8000

Keys: n, p next and previous garment; s screenshot; r record; c compare with the camera; q or Esc quit.
docs/mirror.md explains everything else.
"""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

import engines
from engines import picture_files
from engines.program import InputError, say, silence, tell_end, warn_once
from engines.whole_file import check_apart, check_writable, write_whole
from runtime import bundles, garment, pictures, screen, sources
from runtime.dresser import Dresser, Fitted, fit
from runtime.failure import run
from runtime.framing import Framing
from runtime.notices import Notices
from runtime.options import Options, parse_args
from runtime.pipeline import Pipeline, Result
from runtime.recording import Recorder, check_target
from runtime.slot import Closed
from runtime.smoothing import Smoothing
from runtime.sources import Camera, Source, open_source
from runtime.stats import Stats
from runtime.virtual_camera import VirtualCamera
from runtime.wardrobe import Entry, Wardrobe, entry_of, in_order
from runtime.web_page import PHOTO_S, WebPage, pressed

log = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
MOST_FPS = 60.0  # of a recording; a network stream begins with a burst, faster than it goes on
REDRAW_S = 0.2  # for notices while no frame comes
# Ctrl-C, a service that is stopped, a terminal that is closed: each ends in order, and recordings are whole.
INTERRUPTIONS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
PATIENCE_S = 1.0  # before the window says that it waits for the first one


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Raises InputError and EngineError for what the user can mend."""
    options = parse_args(argv, __doc__)
    if options.record:
        check_target(options.record)
    if options.stats:
        check_writable(options.stats)
    folder = options.garments
    # An empty folder can be filled from the page; until then a sample is worn.
    stand_ins: list[Path] = []
    if options.web and bundles.GARMENTS.is_dir():
        stand_ins = pictures.listing(bundles.GARMENTS, may_be_empty=True)[:1]
    found = pictures.listing(folder, may_be_empty=bool(stand_ins)) if folder else []
    photos = in_order(options.garment, without_screenshots(found))
    if not photos:
        if not stand_ins:
            raise InputError(f"{folder} holds no garments, only the mirror's own pictures")
        photos = stand_ins
        log.warning("%s holds no garments yet: %s is worn until one is added", folder, photos[0].stem)
    virtual = VirtualCamera(options.virtual_camera) if options.virtual_camera else None
    bundle = bundles.choose(options.bundle, options.size)
    inputs = [*photos, *sources.files(options.source), *bundle.files()]
    check_apart(filter(None, (options.record, options.stats)), filter(None, (*inputs, options.mask)))
    window = None if options.headless else screen.Window(options.fullscreen)
    with engines.open(bundle, options.engine) as session:
        notices = Notices()

        def prepare(photo: Path) -> Fitted:
            mask = options.mask if photo == options.garment else None
            size = bundle.height, bundle.width
            return fit(session, garment.load(photo, mask, *size, options.light, options.fill))

        def listing() -> list[Path]:
            found, left_out = picture_files.find(folder) if folder else ([], "")
            warn_once(left_out)
            shown = in_order(options.garment, without_screenshots(found))
            fit_to_wear = any(entry_of(photo) not in unfit for photo in shown)  # the first tells, mostly
            return shown if fit_to_wear else [*shown, *stand_ins]

        asked_for = options.garment is not None
        look = listing if folder else None
        unfit: set[Entry] = set()  # photos, as they are, of a folder that holds no others
        try:
            wardrobe = Wardrobe(photos, prepare, notices, asked_for, look)
        except InputError:
            if asked_for or not stand_ins:
                raise
            unfit.update(map(entry_of, photos))
            log.warning("%s holds no garment that can be used: %s is worn", folder, stand_ins[0].stem)
            wardrobe = Wardrobe([*photos, *stand_ins], prepare, notices, asked_for, look)
        source = open_source(options.source, options.realtime)
        dresser = Dresser(
            session,
            Framing(options.framing, bundle.width / bundle.height, options.smoothing),
            Smoothing() if options.smoothing else None,
            options.idle_s,
        )
        lossless = not options.realtime and not isinstance(source, Camera)
        pipeline = Pipeline(source, dresser, wardrobe, notices, lossless, options.view)
        page = None
        if options.web is not None:
            samples = folder is not None and folder.resolve() == bundles.GARMENTS.resolve()
            own = None if samples else folder  # the samples stay as they are
            page = WebPage(
                options.web, options.web_key, wardrobe, notices, options.guests, own, options.web_url
            )
        mirror = Mirror(options, source, pipeline, wardrobe, window, page, virtual, lossless)
        print(f"engine: {session.backend} ({session.reason})", file=sys.stderr)
        if page:
            print(f"page: {page.url}", file=sys.stderr, flush=True)
            if page.is_shared and screen.shows_codes(sys.stderr):  # nobody types a key into a phone
                print(screen.code_for_terminal(page.url), file=sys.stderr, flush=True)
        code = 0
        about = {"engine": session.backend, "reason": session.reason, "bundle": str(bundle.folder)}
        try:
            try:
                mirror.run()
            except InputError:  # such as a full disk's, which ends a recording
                if mirror.has_shown:
                    mirror.report(about)
                raise
            mirror.report(about)
        except Exception as error:
            if not pipeline.hangs:
                raise
            code = tell_end(error)
        if code or pipeline.hangs:  # nor would the engine's library end, while a thread is in it
            sys.stdout.flush()
            os._exit(code)


class Mirror:
    """The main thread's work: take results, show and record them, obey keys."""

    def __init__(
        self,
        options: Options,
        source: Source,
        pipeline: Pipeline,
        wardrobe: Wardrobe,
        window: screen.Window | None,
        page: WebPage | None,
        virtual: VirtualCamera | None,
        lossless: bool,
    ) -> None:
        self._options = options
        self._source = source
        self._pipeline = pipeline
        self._wardrobe = wardrobe
        self._window = window
        self._page = page
        self._virtual = virtual
        self._lossless = lossless
        self._stats = Stats()
        self._recorder: Recorder | None = None
        self._recorded: list[Path] = []
        self._to_record = options.record  # until it is begun
        self._compare = False
        self._interrupted = False
        self._terminals: list[int] = []  # of standard output and error, those that are one
        self._drawn_at = time.monotonic() + PATIENCE_S
        self._last: Result | None = None

    def run(self) -> None:
        """Run until the source ends, enough frames are done, or the user quits."""
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        handlers = {each: signal.getsignal(each) for each in INTERRUPTIONS}
        for each, handler in handlers.items():
            if handler is not signal.SIG_IGN:  # as of Ctrl-C in the background of a script
                signal.signal(each, self._interrupt)
        limits = [limit for limit in (self._options.frames, self._source.length) if limit is not None]
        progress = tqdm(
            total=min(limits, default=None), unit="frame", disable=not (self._options.headless and limits)
        )
        try:
            self._pipeline.start()
            with progress:
                while not self._done():
                    result = self._pipeline.next(timeout_s=0.03 if self._window or self._page else 0.5)
                    if result is not None:
                        progress.update()
                        self._take(result)
                    for key in pressed(self._page):
                        self._press(key)
                    if self._window and not self._refresh(self._window, result is not None):
                        break
        except Closed:
            pass  # the end of the source
        finally:
            try:
                self._stop_recording()  # before what may not answer
            finally:
                self._pipeline.stop()
                if self._window:
                    self._window.close()
                if self._page:
                    self._page.close()
                if self._virtual:
                    self._virtual.close()
                for each, handler in handlers.items():
                    signal.signal(each, handler)

    @property
    def has_shown(self) -> bool:
        """Whether any frame has come through."""
        return self._stats.frames > 0

    def report(self, about: dict[str, Any]) -> None:
        """Write --stats, and print what was measured."""
        stats = {**about, **self._stats.report(), "dropped": self._pipeline.dropped}
        if self._options.stats:
            write_whole(self._options.stats, (json.dumps(stats, indent=2) + "\n").encode())
        worn = "".join(f", {frames} in {name}" for name, frames in stats["garments"].items())
        rate = f"{stats['fps']:.1f} frames per second"
        say(f"{stats['frames']} frames{worn}, {rate}, {stats['dropped']} dropped")
        for stage, values in stats["latency_ms"].items():
            name = "capture to composited" if stage == "total" else stage
            say(f"{name}: " + ", ".join(f"{percentile} {ms:.1f} ms" for percentile, ms in values.items()))
        for path in self._recorded:
            say(f"video: {path}")
        if stats["frames"] and stats["failed"] == stats["frames"]:
            raise engines.EngineError(
                "no frame could be dressed: " + "; ".join(self._pipeline.notices.current())
            )

    def _done(self) -> bool:
        enough = self._options.frames is not None and self._stats.frames >= self._options.frames
        return enough or self._interrupted

    def _interrupt(self, number: int, _frame: object) -> None:
        # A flag, since the exception of a second Ctrl-C could leave threads running, and half a recording.
        self._interrupted = True
        if number == getattr(signal, "SIGHUP", None):  # what is written to a closed terminal fails
            silence(*self._terminals)

    def _take(self, result: Result) -> None:
        self._stats.add(result)
        self._last = result
        if self._page:
            self._page.show(result, self._compare, self._stats.rate)
        if self._virtual:
            try:
                self._virtual.show(result.image)
            except InputError as error:
                self._pipeline.notices.set("virtual camera", str(error))
                self._virtual.close()
                self._virtual = None
        if self._to_record is not None and self._recorder is None:
            path, self._to_record = self._to_record, None
            try:
                self._start_recording(path)
            except InputError as error:  # its disk has filled up, or gone, since the program began
                if self._lossless:
                    raise
                self._pipeline.notices.set("recording", str(error))
        if self._recorder:
            try:
                self._recorder.add(result.image, result.at)
            except InputError as error:
                needed = self._lossless and self._recorder.path == self._options.record
                problem = error
                try:
                    self._stop_recording()  # what came before is kept
                except InputError as worse:
                    problem = worse
                if needed:
                    raise problem from None
                self._pipeline.notices.set("recording", str(problem))  # whoever looks into it sees on

    def _refresh(self, window: screen.Window, fresh: bool) -> bool:
        """Draw the window, now and then even without a fresh result, and obey its keys; False to quit."""
        now = time.monotonic()
        due = fresh or now - self._drawn_at > REDRAW_S
        if due:
            self._drawn_at = now
        if due and self._last is None:
            window.show(screen.waiting(self._pipeline.notices.current()), sizes=False)
        elif due and self._last is not None:
            lines = []
            if not self._options.fullscreen:  # visitors of a shop have no use for rates
                lines.append(f"{self._stats.rate:.1f} fps  {self._last.latency_ms:.0f} ms")
            if self._recorder:
                lines.append("REC")
            if self._last.garment is not None:
                lines.append(self._last.garment.name)
            code = countdown = None
            if self._page:
                code, countdown = self._page.guest_url, self._page.countdown
                if now - self._page.photo_at < PHOTO_S:
                    lines.append("a phone takes a photo")
            notices = self._pipeline.notices.current()
            window.show(screen.view(self._last, lines, notices, self._compare, code, countdown))
        key = window.key()
        if key:
            self._press(key)
        return key != "q"

    def _press(self, key: str) -> None:
        """Obey a key, and tell where that fails."""
        try:
            self._obey(key)
            self._pipeline.notices.clear("key")
            if key == "r":
                self._pipeline.notices.clear("recording")
        except InputError as error:
            self._pipeline.notices.set("key", str(error))

    def _obey(self, key: str) -> None:
        if key in ("n", "p"):
            self._wardrobe.select(1 if key == "n" else -1)
        elif key == "c":
            self._compare = not self._compare
        elif key == "s" and self._last is not None:
            path = unused(".png")
            pictures.write(path, self._last.image)
            say(f"screenshot: {path}")
        elif key == "r" and self._recorder:
            self._stop_recording()
        elif key == "r":
            self._start_recording(unused(".mp4"))

    def _start_recording(self, path: Path) -> None:
        rate = self._source.fps
        if isinstance(self._source, Camera):
            rate = min(self._source.measured_fps or DEFAULT_FPS, MOST_FPS)
        copies = self._source.copies if self._lossless else None
        self._recorder = Recorder(path, rate or DEFAULT_FPS, copies)

    def _stop_recording(self) -> None:
        if self._recorder is None:
            return
        try:
            path = self._recorder.finish()
        except InputError:
            self._recorder = None
            raise
        # Interrupted until here, it would be finished at the end.
        self._recorder = None
        if path is not None:
            self._recorded.append(path)


def unused(suffix: str) -> Path:
    """A name of the time of day for a new file in the working folder, see `without_screenshots`."""
    name = time.strftime("mirror-%Y%m%d-%H%M%S")
    path, count = Path(name + suffix), 1
    while path.exists():
        count += 1
        path = Path(f"{name}-{count}{suffix}")
    return path


def without_screenshots(photos: Iterable[Path]) -> list[Path]:
    """The working folder may be that of the garments, and no visitor is to become one."""
    return [photo for photo in photos if not pictures.SCREENSHOT.fullmatch(photo.stem)]


if __name__ == "__main__":
    sys.exit(run(main))
