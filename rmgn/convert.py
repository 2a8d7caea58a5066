"""Convert released RMGN and PF-AFN checkpoints.

    python -m rmgn.convert --warp warp.pth --generator gen.pth --out rmgn.safetensors

The architecture is recognised from the keys; spectral norm is folded into the weights.
"""

import argparse
import dataclasses
import pickle
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from engines.program import Parser, run
from engines.whole_file import check_apart
from rmgn import checkpoint
from rmgn.checkpoint import CheckpointError
from rmgn.config import ModelConfig
from rmgn.model import RMGN

State = Mapping[str, Tensor]

SHOWN = 12  # of the keys that differ

# Our names -> released names, as regular expressions; the first match wins.
WARP_NAMES = [
    (r"warp\.(person|garment)_encoder\.stages\.(\d)\.0\.norm\.", r"<\1>_features.encoders.\2.0.block.0."),
    (r"warp\.(person|garment)_encoder\.stages\.(\d)\.0\.conv\.", r"<\1>_features.encoders.\2.0.block.2."),
    (
        r"warp\.(person|garment)_encoder\.stages\.(\d)\.(\d)\.norm1\.",
        r"<\1>_features.encoders.\2.\3.block.0.",
    ),
    (
        r"warp\.(person|garment)_encoder\.stages\.(\d)\.(\d)\.conv1\.",
        r"<\1>_features.encoders.\2.\3.block.2.",
    ),
    (
        r"warp\.(person|garment)_encoder\.stages\.(\d)\.(\d)\.norm2\.",
        r"<\1>_features.encoders.\2.\3.block.3.",
    ),
    (
        r"warp\.(person|garment)_encoder\.stages\.(\d)\.(\d)\.conv2\.",
        r"<\1>_features.encoders.\2.\3.block.5.",
    ),
    (r"warp\.(person|garment)_pyramid\.lateral\.", r"<\1>_FPN.adaptive."),
    (r"warp\.(person|garment)_pyramid\.smooth\.", r"<\1>_FPN.smooth."),
    (r"warp\.flow_net\.match\.", r"aflow_net.netMain."),
    (r"warp\.flow_net\.refine\.", r"aflow_net.netRefine."),
]
RMGN_BLOCKS = ["mid_0", "up_0", "up_1", "mid_1", "up_2", "up_3", "mid_2"]
RMGN_NAMES = [
    (r"generator\.(person|garment)_extractor\.down\.(\d)\.", r"<\1>_encoder.conv<\2+1>.0."),
    (r"generator\.(person|garment)_extractor\.up\.(\d)\.", r"<\1>_encoder.deconv<\2+1>.deconv."),
    (r"generator\.head\.", r"generator.conv_head."),
    (r"generator\.final\.", r"generator.conv_final."),
    (r"generator\.blocks\.(\d)\.fusion(1|2|_shortcut)\.mask\.", r"generator.AADResBlk_[\1].AAD_<\2>.conv_h."),
    (
        r"generator\.blocks\.(\d)\.fusion(1|2|_shortcut)\.(gamma|beta)_(person|garment)\.",
        r"generator.AADResBlk_[\1].AAD_<\2>.conv_{\4}_\3.",
    ),
    (r"generator\.blocks\.(\d)\.(conv1|conv2|shortcut)\.", r"generator.AADResBlk_[\1].<\2>."),
]
WORDS = {
    "<person>_features": "cond_features",
    "<garment>_features": "image_features",
    "<person>_FPN": "cond_FPN",
    "<garment>_FPN": "image_FPN",
    "<person>_encoder": "inp_encoder",
    "<garment>_encoder": "ref_encoder",
    "{person}": "a1",
    "{garment}": "a2",
    "AAD_<1>": "AAD_1",
    "AAD_<2>": "AAD_2",
    "AAD_<_shortcut>": "AAD_s",
    "<conv1>": "conv_1",
    "<conv2>": "conv_2",
    "<shortcut>": "conv_s",
    **{f"<{i}+1>": str(i + 1) for i in range(5)},
    **{f"[{i}]": block for i, block in enumerate(RMGN_BLOCKS)},
}

SPECTRAL_NORM = ("_orig", "_u", "_v")


def released(warp_state: State, generator_state: State) -> RMGN:
    """Build the model that released state dicts belong to, in evaluation mode.

    Keys may carry a `module.` prefix; spectral norm is folded, weight = weight_orig / (uᵀ·W·v).
    Raises CheckpointError listing every missing, unknown and misshapen key.
    """
    warp, generator = _strip(warp_state), _strip(generator_state)
    model = RMGN(_recognise(warp, generator))
    problems: list[str] = []
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, ours in model.state_dict().items():
        source, names = (warp, WARP_NAMES) if name.startswith("warp.") else (generator, RMGN_NAMES)
        key = _pfafn_name(name) if name.startswith("generator.unet.") else _translate(name, names)
        try:
            tensor, keys = _take(source, key)
        except ValueError as error:
            problems.append(f"misshapen {error}, expected {list(ours.shape)} and its vectors")
            used |= {key + suffix for suffix in SPECTRAL_NORM}
            continue
        used |= keys
        if tensor is None:
            if key.endswith("num_batches_tracked"):  # absent from checkpoints of old PyTorch versions
                tensors[name] = ours
            else:
                problems.append(f"missing {key} {list(ours.shape)}")
        elif tensor.shape != ours.shape:
            problems.append(f"misshapen {key}: {list(tensor.shape)}, expected {list(ours.shape)}")
        else:
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    problems += [f"unknown {key} {list(source[key].shape)}" for source in (warp, generator)
                 for key in source if key not in used]  # fmt: skip
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise CheckpointError(
            f"the checkpoint is not a released {model.config.generator.upper()} "
            f"({len(problems)} keys differ):\n  " + "\n  ".join(problems[:SHOWN] + more)
        )
    model.load_state_dict(tensors)
    return model.eval()


def read_state(path: str | Path) -> State:
    """Read a foreign state dict (.pth, never executing code from it, or .safetensors)."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            begins = file.read(2)
        if begins[:1] != b"\x80" and begins != b"PK":  # a pickle or, since PyTorch 1.6, a ZIP file of them
            raise CheckpointError(
                f"{path} is no PyTorch checkpoint, perhaps a web page that was saved instead: "
                "download it again"
            ) from error
        raise CheckpointError(
            f"{path} holds more than tensors and is not loaded, since that could run code. Save its "
            "state_dict alone with torch.save where you trust it."
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged files make torch's readers stumble in every way
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint, or is cut short: {str(error) or 'it is empty'}"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise CheckpointError(f"{path} holds no state dict of tensors")
    return content


def _recognise(warp: State, generator: State) -> ModelConfig:
    if not any(key.startswith("aflow_net.") for key in warp):
        raise CheckpointError(
            "the warp checkpoint has no aflow_net.* keys: is it the generator's? "
            f"Its first keys are {', '.join(list(warp)[:3]) or 'none'}."
        )
    for kind, output in (("rmgn", "generator.conv_final.weight"), ("pfafn", "model.model.6.weight")):
        if output in generator:
            config = ModelConfig(generator="rmgn" if kind == "rmgn" else "pfafn")
            if kind == "rmgn" and _masks_both(generator):
                config = dataclasses.replace(config, mask_source="denormalised")
            return dataclasses.replace(config, composite=generator[output].shape[:1] != (3,))
    raise CheckpointError(
        "the generator checkpoint is neither RMGN's (generator.conv_final.*) nor PF-AFN's (model.model.6.*). "
        f"Its first keys are {', '.join(list(generator)[:3]) or 'none'}."
    )


def _masks_both(generator: State) -> bool:
    """Whether regional masks come from both denormalised maps, as in the paper and one of the releases."""
    head, mask = (
        generator.get(f"generator.{name}.weight") for name in ("conv_head", "AADResBlk_mid_0.AAD_1.conv_h")
    )
    return head is not None and mask is not None and mask.shape[1:2] == (2 * len(head),)


def _strip(state: State) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in state.items()}


def _translate(name: str, names: list[tuple[str, str]]) -> str:
    for pattern, replacement in names:
        key, count = re.subn(rf"^{pattern}", replacement, name)
        if count:
            for word, meaning in WORDS.items():
                key = key.replace(word, meaning)
            return key
    raise AssertionError(f"no released name for {name}")


def _pfafn_name(name: str) -> str:
    """Name of a U-Net parameter in the nested Sequentials of the release.

    A level is [down, (norm), relu, block, block, inner level, upsample, up, norm, relu, block, block];
    the outermost has no norms and nothing behind `up`, the innermost no norm behind `down` and no inner.
    """
    parts = name.removeprefix("generator.unet.").split(".")
    depth = 0
    while parts[0] == "inner":
        parts, depth = parts[1:], depth + 1
    innermost = depth == len(ModelConfig.unet_widths) - 1
    down_norm = 0 if depth == 0 or innermost else 1
    blocks = 2 + down_norm
    up = blocks + 3 + (0 if innermost else 1)  # after both blocks, the inner level and the upsampling
    prefix = "model.model." + "".join(f"{4 if d == 0 else 5}.model." for d in range(depth))
    rest = ".".join(parts[1:])
    if parts[0] in ("down_blocks", "up_blocks"):
        start = blocks if parts[0] == "down_blocks" else up + 3
        layer = {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4}[parts[2]]
        return f"{prefix}{start + int(parts[1])}.block.{layer}.{parts[3]}"
    index = {"down": 0, "down_norm": 1, "up": up, "up_norm": up + 1}[parts[0]]
    return f"{prefix}{index}.{rest}"


def _take(state: State, key: str) -> tuple[Tensor | None, set[str]]:
    """The tensor of `key`, spectral norm folded, and the keys that it was made of.

    Raises ValueError naming the parts of a spectral norm that do not fit each other.
    """
    if key in state:
        return state[key], {key}
    parts = [key + suffix for suffix in SPECTRAL_NORM]
    if not all(part in state for part in parts):
        return None, set()
    weight, u, v = (state[part].double() for part in parts)
    if weight.dim() < 2 or u.shape != weight.shape[:1] or v.shape != weight[0].flatten().shape:
        raise ValueError(", ".join(f"{part} {list(state[part].shape)}" for part in parts))
    sigma = u @ weight.flatten(1) @ v
    return (weight / sigma).float(), set(parts)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--warp", type=Path, required=True, metavar="FILE", help="warp module, .pth")
    parser.add_argument("--generator", type=Path, required=True, metavar="FILE", help="generator, .pth")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="our checkpoint, .safetensors"
    )
    return parser.parse_args(argv)


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    if args.out.is_dir() or args.out.suffix != ".safetensors":
        raise CheckpointError(f"--out {args.out} is not the name of a file that ends in .safetensors")
    check_apart([args.out], [args.warp, args.generator])
    model = released(read_state(args.warp), read_state(args.generator))
    source = {"source": f"released weights: {args.warp.name}, {args.generator.name}"}
    checkpoint.save(model, args.out, source)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{args.out}: {model.config.generator.upper()}, {count:.1f} M parameters")


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
