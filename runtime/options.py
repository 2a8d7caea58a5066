"""The mirror's command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import engines
from engines.program import InputError, Parser
from engines.sizes import parse_size
from runtime import bundles, virtual_camera
from runtime.framing import MODES
from runtime.garment import add_options
from runtime.view import TURNS, View, parse_aspect
from runtime.web_address import Address, parse_address, parse_public
from runtime.web_keys import check_key


@dataclass(frozen=True)
class Options:
    """What the command line says; see `--help`."""

    source: str
    garment: Path | None
    mask: Path | None
    garments: Path | None
    light: float
    fill: bool
    bundle: Path | None
    engine: str
    size: tuple[int, int] | None
    view: View
    framing: str
    idle_s: float | None
    smoothing: bool
    headless: bool
    fullscreen: bool
    web: Address | None
    web_key: str | None
    web_url: str | None
    guests: bool
    realtime: bool
    record: Path | None
    virtual_camera: Path | None
    frames: int | None
    stats: Path | None


def parse_args(argv: Sequence[str] | None, description: str | None = None) -> Options:
    """Raises InputError for values that cannot be."""
    parser = Parser(description=description)
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument("--camera", metavar="N", help="camera index, or a part of its name (default: 0)")
    sources.add_argument(
        "--source",
        metavar="WHAT",
        help="camera, video, picture, folder of pictures, live stream (RTSP or HTTP)",
    )
    parser.add_argument(
        "--garment",
        type=Path,
        metavar="FILE",
        help="shop photo of the garment (the samples that come with it)",
    )
    parser.add_argument("--mask", type=Path, metavar="FILE", help="its mask, otherwise found")
    parser.add_argument("--garments", type=Path, metavar="DIR", help="garments for the keys n and p")
    add_options(parser)
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the network, or a folder of several")
    parser.add_argument("--engine", default="auto", choices=["auto", *engines.BACKENDS], help="what runs it")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="the network's input size")
    parser.add_argument(
        "--rotate",
        type=int,
        choices=(0, *TURNS),
        default=0,
        metavar="DEGREES",
        help="turn the camera's picture clockwise by 90, 180 or 270",
    )
    parser.add_argument(
        "--aspect", type=parse_aspect, metavar="W:H", help="cut its sides, as 9:16 for an upright screen"
    )
    parser.add_argument("--framing", choices=MODES, default="auto", help="what the network sees")
    parser.add_argument(
        "--no-smoothing", dest="smoothing", action="store_false", help="no averaging over time"
    )
    parser.add_argument(
        "--idle",
        dest="idle_s",
        type=float,
        metavar="SECONDS",
        help="rest once no face looked here for so long, until one does",
    )
    parser.add_argument(
        "--fullscreen", action="store_true", help="the window fills the screen, without rates"
    )
    parser.add_argument("--headless", action="store_true", help="no window; takes every frame of a file")
    parser.add_argument(
        "--web",
        type=parse_address,
        metavar="[HOST:]PORT",
        help="a page with picture and controls (HOST: this machine alone); files play at their own pace",
    )
    parser.add_argument(
        "--web-key", type=check_key, metavar="TEXT", help="what its address holds (a new one each time)"
    )
    parser.add_argument(
        "--web-url",
        type=parse_public,
        metavar="URL",
        help="how others reach the page through a server before it, such as https://mirror.example/",
    )
    parser.add_argument(
        "--no-guests", dest="guests", action="store_false", help="no QR code to the page in the window"
    )
    parser.add_argument("--realtime", action="store_true", help="play files at their own pace")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write a video")
    parser.add_argument(
        "--virtual-camera",
        type=virtual_camera.device,
        metavar="N",
        help="also a camera of the system: number or path of a v4l2loopback device (Linux)",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="stop after so many frames")
    parser.add_argument("--stats", type=Path, metavar="FILE", help="write the measurements as JSON")
    args = parser.parse_args(argv)
    if args.mask is not None and args.garment is None:
        raise InputError("--mask belongs to --garment, which is missing")
    if args.garment is not None and args.garment.is_dir():
        raise InputError(f"--garment {args.garment} is a folder; give it as --garments")
    if args.garment is None and args.garments is None:
        if not bundles.GARMENTS.is_dir():
            raise InputError(
                f"give a garment, --garment FILE or --garments DIR: the samples of a checkout are not in "
                f"{bundles.GARMENTS} (install with `pip install -e`)"
            )
        args.garments = bundles.GARMENTS
    if args.frames is not None and args.frames < 1:
        raise InputError("--frames must be at least 1")
    if args.idle_s is not None and not args.idle_s >= 1:
        raise InputError(f"--idle must be at least a second, not {args.idle_s:g}")
    if args.idle_s is not None and args.framing != "auto":
        raise InputError(f"--idle looks for faces, which --framing {args.framing} does not")
    if args.fullscreen and args.headless:
        raise InputError("--fullscreen is for the window, which --headless leaves out")
    for flag, given in (
        ("--web-key", args.web_key is not None),
        ("--web-url", args.web_url is not None),
        ("--no-guests", not args.guests),
    ):
        if given and args.web is None:
            raise InputError(f"{flag} belongs to --web, which is missing")
    args.view = View(args.rotate, args.aspect)
    args.source = args.source if args.source is not None else args.camera or "0"
    if args.virtual_camera is not None:
        devices = virtual_camera.device(args.source), args.virtual_camera
        if len({os.path.realpath(path) for path in devices}) == 1:  # links by name lead to devices
            raise InputError(f"{args.virtual_camera} cannot be the camera and the virtual camera")
    shown = not args.headless or args.web is not None or args.virtual_camera is not None
    args.realtime = args.realtime or shown
    return Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
