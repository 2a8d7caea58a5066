"""What is wrong just now, by subject: shown on screen, and logged once when it begins and when it ends."""

import logging
import threading
import time

log = logging.getLogger(__name__)

QUIET_S = 5.0  # trouble that comes and goes is logged so seldom, for each subject


class Notices:
    """Any thread may call any method."""

    def __init__(self) -> None:
        self._messages: dict[str, str] = {}
        self._told: dict[str, str] = {}  # what was logged and holds
        self._told_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def set(self, subject: str, message: str) -> None:
        """Something is wrong with `subject`."""
        message = message.strip().partition("\n")[0]  # libraries add where in their source it happened
        with self._lock:
            self._messages[subject] = message
            now = time.monotonic()
            if self._told.get(subject) != message and now - self._told_at.get(subject, -QUIET_S) >= QUIET_S:
                log.warning("%s", message)
                self._told[subject], self._told_at[subject] = message, now

    def clear(self, subject: str) -> None:
        """`subject` is well again."""
        with self._lock:
            self._messages.pop(subject, None)
            if self._told.pop(subject, None) is not None:
                log.warning("%s: working again", subject)

    def drop(self, subject: str) -> None:
        """What was wrong with `subject` matters no more, although nothing was mended."""
        with self._lock:
            self._messages.pop(subject, None)
            self._told.pop(subject, None)

    def current(self) -> list[str]:
        """All messages that hold."""
        with self._lock:
            return list(self._messages.values())
