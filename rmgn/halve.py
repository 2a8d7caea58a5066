r"""Make a checkpoint fit to be handed on: weights as halves, with notes of what they were trained on.

    python -m rmgn.halve --checkpoint runs/full/best.safetensors --out models/mine.safetensors \
        --note data="generated people" --note licence=Apache-2.0

Weights of convolutions are rounded to float16, all else stays float32. Evaluate what is written: it is what
will be used.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.program import Parser, run
from engines.whole_file import check_apart, check_writable
from rmgn import checkpoint
from rmgn.config import parse_size


def note(text: str) -> tuple[str, str]:
    """Parse NAME=TEXT."""
    name, sign, value = text.partition("=")
    if not (name and sign and value) or name in checkpoint.OWN:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=TEXT, or its name is the file's own")
    try:
        text.encode()
    except UnicodeEncodeError:  # of bytes that are no text
        raise argparse.ArgumentTypeError(f"{text!r} holds bytes that are no UTF-8") from None
    if name == "size":
        parse_size(value)
    return name, value


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help=".safetensors of a run"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--note",
        type=note,
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="kept in the file; repeatable",
    )
    return parser.parse_args(argv)


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    check_apart([args.out], [args.checkpoint])
    check_writable(args.out)
    model = checkpoint.load(args.checkpoint)
    notes = checkpoint.read_notes(args.checkpoint) | dict(args.note)
    checkpoint.save(model, args.out, notes, half=True)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
