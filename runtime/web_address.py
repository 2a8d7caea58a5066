"""Where the page listens, and by which address others reach it."""

import ipaddress
import re
import socket
from argparse import ArgumentTypeError
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
LONGEST_URL = 100  # characters


@dataclass(frozen=True)
class Address:
    """Where a server listens; port 0 is any that is free."""

    host: str
    port: int


def parse_address(text: str) -> Address:
    """An address from "PORT" (of this machine alone), "HOST:PORT" or "[IPv6]:PORT", for argparse.

    Raises ArgumentTypeError.
    """
    match = re.fullmatch(r"(?:(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):)?(\d{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ArgumentTypeError(f"{text} is not PORT or HOST:PORT, such as 8000 or 0.0.0.0:8000")
    return Address(match[1] or match[2] or LOOPBACK, int(match[3]))


def parse_public(text: str) -> str:
    """An http or https URL that others can open, for argparse; returned with a slash at its end.

    It goes into QR codes, which are hard to read where they hold more. Raises ArgumentTypeError.
    """
    host = r"[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*|\[[0-9a-fA-F:.]+\]"
    match = re.fullmatch(rf"https?://({host})(?::(\d{{1,5}}))?(?:/[A-Za-z0-9._~/-]*)?", text)
    if match is None or len(text) > LONGEST_URL or not 0 < int(match[2] or 80) < 65536:
        raise ArgumentTypeError(
            f"{text} is not an address such as https://mirror.example/, of {LONGEST_URL} characters at most"
        )
    if _is_nobodys(match[1].lower()):
        raise ArgumentTypeError(f"{text} is not an address that others can open")
    return text.rstrip("/") + "/"


def _is_nobodys(host: str) -> bool:
    """Whether a URL's host, in small letters, is this very machine for whoever opens it, or no address."""
    try:
        own = ipaddress.ip_address(host.strip("[]"))
    except ValueError:  # a name, or what browsers may read as a number: 127.1, 0
        named = re.search("[a-z]", host) is not None and not host.startswith("[")
        return not named or host == "localhost" or host.endswith(".localhost")
    mapped = getattr(own, "ipv4_mapped", None) or own
    return mapped.is_loopback or mapped.is_unspecified


def reached_at(host: str, bound: str) -> str | None:
    """The host by which other machines reach what was to listen on `host` and does on the IP `bound`.

    Where that is every address, the one of the network just now. None where others cannot reach it.
    """
    own = ipaddress.ip_address(bound)
    if own.is_loopback:
        return None
    if not own.is_unspecified:
        return host
    # Addresses of nobody's; nothing is sent.
    nowhere = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}
    family, target = nowhere[own.version]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except OSError:  # no network just now
        return None


def is_loopback(address: str) -> bool:
    """Whether it is this machine, which may speak for many as a server before this one."""
    return bool(address) and ipaddress.ip_address(address).is_loopback
