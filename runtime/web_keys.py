"""The keys that every address of the page holds."""

import re
import secrets
import time
from argparse import ArgumentTypeError
from collections import deque

GUEST_S = 300.0  # a guest's key is renewed so often, and good for up to twice as long


def check_key(text: str) -> str:
    """The owner's key, where it can be one, for argparse. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,64}", text):
        raise ArgumentTypeError("it takes 8 to 64 letters, digits, - and _")
    return text


class GuestKeys:
    """Keys that strangers are shown: renewed, so that nobody keeps one for long."""

    def __init__(self, life_s: float = GUEST_S) -> None:
        self._life_s = life_s
        self._keys: deque[tuple[str, float]] = deque(maxlen=2)

    def current(self) -> str:
        """The newest key, made now where the last one is old."""
        now = time.monotonic()
        if not self._keys or now - self._keys[-1][1] >= self._life_s:
            self._keys.append((secrets.token_hex(12), now))
        return self._keys[-1][0]

    def __contains__(self, key: object) -> bool:
        now = time.monotonic()
        return any(
            secrets.compare_digest(known.encode(), str(key).encode()) and now - made < 2 * self._life_s
            for known, made in tuple(self._keys)
        )
