"""Sizes of pictures as users write them."""

import argparse
import re


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of HEIGHTxWIDTH, such as 256x192, for argparse. Raises ArgumentTypeError."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x192")
    return int(match[1]), int(match[2])
