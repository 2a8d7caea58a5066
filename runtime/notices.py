"""What is wrong just now, by subject: shown on screen, and logged once when it begins and when it ends."""

import logging
import threading

log = logging.getLogger(__name__)


class Notices:
    """Any thread may call any method."""

    def __init__(self) -> None:
        self._messages: dict[str, str] = {}
        self._lock = threading.Lock()

    def set(self, subject: str, message: str) -> None:
        """Something is wrong with `subject`."""
        with self._lock:
            if self._messages.get(subject) != message:
                log.warning("%s", message)
            self._messages[subject] = message

    def clear(self, subject: str) -> None:
        """`subject` is well again."""
        with self._lock:
            if self._messages.pop(subject, None) is not None:
                log.warning("%s: working again", subject)

    def current(self) -> list[str]:
        """All messages that hold."""
        with self._lock:
            return list(self._messages.values())
