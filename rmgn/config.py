"""The architecture as plain numbers, saved with every checkpoint."""

import argparse
import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from engines import sizes

# How many widths there may be: pictures are multiples of 32, so that they can be halved five times.
LENGTHS = {
    "encoder_widths": (1, 5),
    "unet_widths": (1, 5),
    "extractor_widths": (5, 5),
    "fusion_widths": (5, 5),
}
OPTIONAL = ("palette",)  # may be 0: there is no such part


@dataclass(frozen=True)
class ModelConfig:
    """Widths and variants of the network; the defaults are the released RMGN.

    Where the paper and its released code differ, `paper_formulas` names the values of the paper.
    """

    # Warp module (section 4.1)
    encoder_widths: tuple[int, ...] = (64, 128, 256, 256, 256)  # one a stage, each halves the resolution
    pyramid_width: int = 256
    flow_widths: tuple[int, ...] = (128, 64, 32)  # hidden convolutions of both flow heads
    coarse_flow_widths: tuple[int, ...] = (128, 64, 32)  # of the two coarsest levels, which fit the whole
    finest_flow_widths: tuple[int, ...] = (128, 64, 32)  # of the finest level, where pixels are many
    correlation_radius: int = 3  # 7×7 window
    pixel_rule: Literal["centres", "corners"] = "corners"  # see kernels.identity_flow

    # Generator (section 4.2)
    generator: Literal["rmgn", "pfafn"] = "rmgn"
    extractor_widths: tuple[int, ...] = (32, 64, 128, 256, 512)  # finest first
    fusion_widths: tuple[int, ...] = (1024, 512, 256, 128, 64)  # of the one-way generator, coarsest first
    skip: Literal["concat", "add"] = "concat"  # release; equation (3) adds
    residual_gamma: bool = True  # release n·(1+γ)+β; equation (4) n·γ+β
    mask_source: Literal["normalised", "denormalised"] = (
        "normalised"  # release σ(conv(n)); eq. (5) σ(conv(hP‖hI))
    )
    regional_mask: bool = True  # False: person and garment are averaged, column B of the paper's table 3
    composite: bool = True  # an output channel blends the warped garment in
    # Not in the paper: the last output channel keeps the person's own pixels in the rendered image, and what
    # is drawn takes light and colour from the person's picture, which instance norms forget.
    preserve: bool = False
    # How many colours of the person's picture are drawn around (rmgn.palette); 0: the picture's mean. Is 0
    # whatever is given without `preserve` and in the PF-AFN generator, which have none.
    palette: int = 0
    unet_widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # of the PF-AFN generator, finest first

    def __post_init__(self) -> None:
        if not self.preserve or self.generator != "rmgn":
            object.__setattr__(self, "palette", 0)

    @property
    def output_channels(self) -> int:
        """Of a generator: red, green, blue, then the masks in the order above."""
        return 3 + self.composite + self.preserve

    def warp_part(self) -> tuple[object, ...]:
        """What the weights of the warp module depend on."""
        heads = (self.coarse_flow_widths, self.flow_widths, self.finest_flow_widths)
        return (self.encoder_widths, self.pyramid_width, *heads, self.correlation_radius, self.pixel_rule)

    def to_json(self) -> str:
        """The configuration as a JSON object."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModelConfig":
        """Inverse of `to_json`. Raises ValueError for fields or values unknown to this version."""
        fields: dict[str, Any] = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"model settings must be a JSON object, not {text[:40]}")
        unknown = set(fields) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"unknown model settings {', '.join(sorted(unknown))}: made by a newer version?")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        hints = get_type_hints(cls)
        for name, value in values.items():
            _check(name, value, hints[name])
        return cls(**values)


def _check(name: str, value: object, hint: Any) -> None:
    """Raise ValueError unless a field of ModelConfig can have this value."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            known = ", ".join(get_args(hint))
            raise ValueError(f"unknown {name} {value!r}: made by a newer version? There are {known}")
    elif hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {value!r}")
    else:
        single = hint is int
        widths = (value,) if single else value
        least = 0 if name in OPTIONAL else 1
        if not isinstance(widths, tuple) or not all(
            type(width) is int and width >= least for width in widths
        ):
            wanted = "a whole number" if single else "a list of whole numbers"
            allowed = f"{wanted} above 0" if least else f"0 or {wanted}"
            raise ValueError(f"{name} must be {allowed}, not {value!r}")
        fewest, most = LENGTHS.get(name, (1, 99))
        if not fewest <= len(widths) <= most:
            wanted = str(most) if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"{name} must have {wanted} widths, not {len(widths)}")


def paper_formulas(config: ModelConfig) -> ModelConfig:
    """The same widths with the equations as printed in the paper, for training from scratch."""
    return dataclasses.replace(config, skip="add", residual_gamma=False, mask_source="denormalised")


PRESETS: dict[str, ModelConfig] = {
    # The published widths; takes released weights.
    "paper": ModelConfig(),
    # Small enough for a CPU: over 25 frames a second on two cores at 256×192, the garment cached. Widths are
    # multiples of 16, the block in which CPU engines and tensor cores compute (benchmarks/model_cost.py).
    "lite": ModelConfig(
        encoder_widths=(16, 32, 64, 96, 112),
        pyramid_width=32,
        flow_widths=(32, 16, 16),
        finest_flow_widths=(16, 16, 8),
        pixel_rule="centres",
        extractor_widths=(8, 16, 32, 64, 96),
        fusion_widths=(96, 64, 32, 16, 8),
        preserve=True,  # eight channels at full size cannot carry a face and a room through instance norms
        palette=8,
        unet_widths=(12, 24, 40, 64, 96),  # as many multiply-adds as the generator above
    ),
}


def parse_size(text: str) -> tuple[int, int]:
    """As `engines.sizes.parse_size`, for what the network takes: its pyramid wants multiples of 32."""
    size = sizes.parse_size(text)
    if any(length % 32 for length in size):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH in multiples of 32, such as 256x192")
    return size
