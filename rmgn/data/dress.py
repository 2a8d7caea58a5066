"""Dress layers: fabrics looked up through atlas coordinates, tones, backdrop and camera, batched in torch.

Runs on any device. Pictures are [B, 3, H, W]; colours are linear until the camera, sRGB in [-1, 1] after.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rmgn.data.fabrics import TEXEL, TILE
from rmgn.data.look import CAMERA, NUMBERS, SHOP
from rmgn.data.people.layers import (
    BACK,
    COLLAR,
    EDGE_UNIT,
    LIGHT_MAX,
    OUTLINE,
    OUTLINE_SHIFT,
    PANEL,
    PLACE_UNIT,
    PLACE_ZERO,
    SLEEVE_LEFT,
    SLEEVE_RIGHT,
    VISIBLE,
)
from rmgn.data.prints import HEIGHT, WIDTH

Batch = dict[str, Tensor]


class Dressed(NamedTuple):
    """A batch of dressed pairs. Garment 0 is `a`, garment 1 is `b`; index 1 of a dimension [2] is `b`.

    person: [B, 2, 3, H, W] the same person in a and in b, RGB in [-1, 1].
    garment: [B, 2, 3, H, W] shop photos, RGB in [-1, 1].
    garment_mask: [B, 2, 1, H, W] 0 or 1.
    worn_mask: [B, 2, 1, H, W] share of each person pixel that is garment.
    flow: [B, 2, 2, H, W] where in the shop photo each person pixel's cloth lies: (x, y) sampling grid in
        [-1, 1], align_corners False; 0 where there is no garment.
    visible: [B, 2, 1, H, W] bool, where the flow is true and its spot is seen in the shop photo.
    parse: [B, 2, H, W] labels; parts: [B, H, W] body parts; depth: [B, 2, H, W] metres, 0 for background.
    """

    person: Tensor
    garment: Tensor
    garment_mask: Tensor
    worn_mask: Tensor
    flow: Tensor
    visible: Tensor
    parse: Tensor
    parts: Tensor
    depth: Tensor


class Cloth(NamedTuple):
    """Where each pixel lies on a garment: all [N, H, W]; metres, and integer codes."""

    x: Tensor
    z: Tensor
    code: Tensor
    edge: Tensor
    seam: Tensor


def dress(batch: Batch, noise_seed: int = 0, camera: bool = True) -> Dressed:
    """Dress a collated batch (see `GeneratedPeople`) on the device where it lies.

    camera: False leaves out blur, noise and JPEG, for tests.
    """
    b, _, h, w, _ = batch["garment"].shape
    n = 2 * b
    generator = torch.Generator(device=batch["garment"].device).manual_seed(noise_seed)
    looks = {k: batch[k].flatten(0, 1) for k in _GARMENT_LOOK}
    worn = {k: batch[k].flatten(0, 1) for k in ("garment", "place", "cover", "light", "gloss", "albedo")}
    shop = {k: batch[k].flatten(0, 1) for k in ("shop_garment", "shop_light", "shop_gloss")}

    cloth = worn_cloth(worn["garment"], worn["place"])
    flat = shop_cloth(shop["shop_garment"], looks["shop_place"])
    both = Cloth(*(torch.cat([one, other]) for one, other in zip(cloth, flat, strict=True)))
    fabric = fabric_colour(both, {k: torch.cat([v, v]) for k, v in looks.items()})
    gloss = looks["numbers"][:, NUMBERS.index("gloss")].view(n, 1, 1, 1)

    light, mirror = unpack(worn["light"]).movedim(-1, 1), unpack(worn["gloss"])[:, None]
    picture = worn["garment"][..., 0:1].movedim(-1, 1) / 255 * (fabric[:n] * light + gloss * mirror)
    person, cover = _person(batch, worn, light, mirror)
    cover = cover + worn["garment"][..., 0].unsqueeze(1) / 255
    numbers = batch["camera"].repeat_interleave(2, 0)
    behind = _backdrop(batch["backdrop"], cover, numbers)
    linear_picture = picture + person + behind * (1 - cover).clamp(0, 1)
    people = develop(linear_picture, numbers)
    if camera:
        people = _camera(people, numbers, generator)

    mask = (shop["shop_garment"][..., 0] > 127).unsqueeze(1)
    photo = _shop_photo(fabric[n:], gloss, shop, batch["shop"].flatten(0, 1), generator if camera else None)
    flow, visible = flows(cloth, worn["garment"], looks["shop_place"])
    pair = (b, 2)
    return Dressed(
        people.unflatten(0, pair) * 2 - 1,
        photo.unflatten(0, pair) * 2 - 1,
        mask.float().unflatten(0, pair),
        (worn["garment"][..., 0].float() / 255).unsqueeze(1).unflatten(0, pair),
        flow.unflatten(0, pair),
        visible.unflatten(0, pair),
        batch["labels"].long(),
        batch["parts"].long(),
        batch["depth"].float() / 1000,
    )


_GARMENT_LOOK = ("tile", "palette", "band", "overlay", "numbers", "shop_place", "front", "sleeve_angle")


def unpack(stored: Tensor) -> Tensor:
    """uint8 light, gloss or albedo to linear float."""
    return (stored.float() / 255).square() * LIGHT_MAX


def worn_cloth(garment: Tensor, place: Tensor) -> Cloth:
    """From the planes of a `Worn`: garment uint8 [N, H, W, 4], place int32 [N, H, W, 4]."""
    metres = (place[..., :2].float() - PLACE_ZERO) * PLACE_UNIT
    return Cloth(
        metres[..., 0],
        metres[..., 1],
        garment[..., 1].int(),
        garment[..., 2] * EDGE_UNIT,
        garment[..., 3] * EDGE_UNIT,
    )


def shop_cloth(garment: Tensor, shop_place: Tensor) -> Cloth:
    """From the planes of a `Shop`: its picture plane is the atlas. shop_place [N, 4]: x, z, half height, roll."""
    n, h, w, _ = garment.shape
    x = (torch.arange(w, device=garment.device) + 0.5) / w * 2 - 1
    y = (torch.arange(h, device=garment.device) + 0.5) / h * 2 - 1
    right, up = (x * w / h).view(1, 1, w), -y.view(1, h, 1)
    cx, cz, half, roll = (shop_place[:, k].view(n, 1, 1) for k in range(4))
    c, s = torch.cos(roll), torch.sin(roll)
    return Cloth(
        cx + half * (c * right - s * up),
        cz + half * (s * right + c * up),
        garment[..., 1].int(),
        garment[..., 2] * EDGE_UNIT,
        garment[..., 3] * EDGE_UNIT,
    )


def flows(cloth: Cloth, garment: Tensor, shop_place: Tensor) -> tuple[Tensor, Tensor]:
    """The true flow [N, 2, H, W] of worn pixels into their shop photo, and where it is visible [N, 1, H, W]."""
    n, h, w = cloth.x.shape
    cx, cz, half, roll = (shop_place[:, k].view(n, 1, 1) for k in range(4))
    c, s = torch.cos(roll), torch.sin(roll)
    dx, dz = (cloth.x - cx) / half, (cloth.z - cz) / half
    there = garment[..., 0] > 0
    grid = torch.stack([(c * dx + s * dz) * h / w, s * dx - c * dz], dim=1)
    visible = there & ((cloth.code & VISIBLE) > 0) & (garment[..., 0] > 127)
    return torch.where(there.unsqueeze(1), grid, torch.zeros_like(grid)), visible.unsqueeze(1)


def _sample_tile(tile: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Look a repeating tile [N, C, T, T] up at (s, t) [N, H, W] in metres, t upwards."""
    size = tile.shape[-1]
    padded = F.pad(tile, (1, 1, 1, 1), mode="circular")
    place = torch.stack([s, -t], dim=-1) / (TILE * TEXEL)
    grid = ((place - place.floor()) * size + 1) / (size + 2) * 2 - 1
    return F.grid_sample(padded, grid, mode="bilinear", align_corners=False)


def fabric_colour(cloth: Cloth, look: Batch) -> Tensor:
    """Linear albedo [N, 3, H, W] of each pixel's cloth.

    look: tile uint8 [N, 4, T, T], palette [N, 3, 3], band [N, 3], overlay uint8 [N, 4, h, w], numbers
    [N, len(NUMBERS)], front [N, 2] (z of hem and neckline), sleeve_angle [N] in radians.
    """
    n = len(cloth.x)
    number = {name: look["numbers"][:, k].view(n, 1, 1) for k, name in enumerate(NUMBERS)}
    bottom, top = look["front"][:, 0].view(n, 1, 1), look["front"][:, 1].view(n, 1, 1)
    panel = cloth.code & PANEL
    sleeve = (panel == SLEEVE_LEFT) | (panel == SLEEVE_RIGHT)
    front = ((cloth.code & BACK) == 0) & (panel == 0)

    # The grain runs down the torso and along the sleeves.
    angle = look["sleeve_angle"].view(n, 1, 1)
    angle = torch.where(panel == SLEEVE_LEFT, angle, torch.where(panel == SLEEVE_RIGHT, -angle, 0 * angle))
    angle = angle + number["turn"]
    down = cloth.z - top
    c, s = torch.cos(angle), torch.sin(angle)
    along_x, along_z = c * cloth.x + s * down, c * down - s * cloth.x
    apart = sleeve * 0.137 + (panel == COLLAR) * 0.071 + ((cloth.code & BACK) > 0) * 0.033
    texel = _sample_tile(
        look["tile"].float() / 255, along_x / number["scale"] + apart, along_z / number["scale"] + apart
    )

    second, third, weave = texel[:, 0:1], texel[:, 1:2], texel[:, 2:3] * (255 / 128)
    share = (cloth.z - bottom) / (top - bottom)
    block = ((share < number["block_low"]) & (number["block_low"] < 1)).unsqueeze(1)
    band_block = block & (share > number["block_high"]).unsqueeze(1)
    contrast = (sleeve & (number["sleeve_contrast"] > 0.5)).unsqueeze(1)
    palette = look["palette"]
    ground, stripe, accent = (palette[:, k].view(n, 3, 1, 1) for k in range(3))
    base = torch.where(block, torch.where(band_block, accent, stripe), ground)
    base = torch.where(contrast, stripe, base)
    collar = ((panel == COLLAR) & (number["collar_contrast"] > 0.5)).unsqueeze(1)
    base = torch.where(collar, look["band"].view(n, 3, 1, 1), base)
    plain = (block | contrast | collar).float()
    second, third = second * (1 - plain), third * (1 - plain)
    albedo = base * (1 - second - third) + stripe * second + accent * third

    over = _overlay(look["overlay"], cloth.x, down) * front.unsqueeze(1)
    albedo = albedo * (1 - over[:, 3:]) + linear(over[:, :3])
    return _trims(albedo * weave, cloth, look, number)


def _overlay(overlay: Tensor, x: Tensor, down: Tensor) -> Tensor:
    """An overlay uint8 [N, 4, h, w] at x from its middle and `down` (negative) below its top, in metres."""
    grid = torch.stack([x / (WIDTH * TEXEL / 2), -down / (HEIGHT * TEXEL / 2) - 1], dim=-1)
    return F.grid_sample(overlay.float() / 255, grid, mode="bilinear", align_corners=False)


def _trims(albedo: Tensor, cloth: Cloth, look: Batch, number: Batch) -> Tensor:
    """Bands, stitches and the shadow lines of edges and seams."""
    kind = (cloth.code & OUTLINE) >> OUTLINE_SHIFT
    zero = torch.zeros_like(cloth.edge)
    width = zero + number["neck_band"]
    width = torch.where(kind == 1, zero + number["hem_band"], width)
    width = torch.where(kind == 2, zero + number["cuff_band"], width)
    inside = ((width - cloth.edge) / 0.003 + 0.5).clamp(0, 1) * (width > 0)
    band = look["band"].view(-1, 3, 1, 1)
    albedo = albedo * (1 - inside.unsqueeze(1)) + band * inside.unsqueeze(1)
    line = 0.35 * torch.exp(-((cloth.edge - width) / 0.002).square()) * (width > 0)
    stitch = number["stitch"]
    line = line + 0.22 * torch.exp(-((cloth.edge - stitch) / 0.0018).square()) * ((width == 0) & (stitch > 0))
    line = line + 0.18 * torch.exp(-(cloth.edge / 0.0025).square())
    line = line + number["seam_line"] * torch.exp(-(cloth.seam / 0.0022).square())
    return albedo * (1 - line.clamp(0, 0.6)).unsqueeze(1)


def _person(batch: Batch, worn: Batch, light: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """Skin, hair, lower clothes and the rest, weighted by their cover: picture [N, 3, H, W], cover [N, 1, H, W]."""
    n, h, w, _ = worn["cover"].shape

    def each(name: str) -> Tensor:
        return batch[name].repeat_interleave(2, 0)

    skin, hair, lower, other = (worn["cover"].float() / 255).unbind(-1)
    detail = unpack(worn["albedo"]).movedim(-1, 1)
    tone = each("skin").view(n, 3, 1, 1) * detail.clamp_min(1e-3) ** each("skin_power").view(n, 1, 1, 1)
    picture = skin.unsqueeze(1) * (tone * light + 0.6 * mirror)
    strands = each("hair").view(n, 3, 1, 1) * detail
    picture = picture + hair.unsqueeze(1) * (strands * light + 0.22 * mirror)
    metres = (worn["place"][..., 2:].float() - PLACE_ZERO) * PLACE_UNIT
    x, down = metres[..., 0], metres[..., 1]
    texel = _sample_tile(each("lower_tile").float() / 255, x, down)
    palette = each("lower_palette")
    ground, stripe, accent = (palette[:, k].view(n, 3, 1, 1) for k in range(3))
    second, third, weave = texel[:, 0:1], texel[:, 1:2], texel[:, 2:3] * (255 / 128)
    cloth = (ground * (1 - second - third) + stripe * second + accent * third) * weave
    over = _overlay(each("lower_overlay"), x, down)
    cloth = cloth * (1 - over[:, 3:]) + linear(over[:, :3])
    picture = picture + lower.unsqueeze(1) * (cloth * light + 0.3 * mirror)
    picture = picture + other.unsqueeze(1) * (detail * light + mirror)
    return picture, (skin + hair + lower + other).unsqueeze(1)


def linear(srgb: Tensor) -> Tensor:
    """sRGB in [0, 1] to linear."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def display(light: Tensor) -> Tensor:
    """Linear to sRGB in [0, 1]."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-6) ** (1 / 2.4) - 0.055)


def _backdrop(backdrop: Tensor, cover: Tensor, numbers: Tensor) -> Tensor:
    """The backdrop uint8 [B, H, W, 3], linear [2B, 3, H, W], with the soft shadow that the person throws on it."""
    behind = linear(backdrop.float().movedim(-1, 1) / 255).repeat_interleave(2, 0)
    n, _, h, w = behind.shape
    strength = numbers[:, CAMERA.index("shadow")].view(n, 1, 1, 1)
    small = F.avg_pool2d(cover, 8, ceil_mode=True)
    kernel = torch.exp(-torch.linspace(-2, 2, 9, device=cover.device).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, 9)
    small = F.conv2d(F.conv2d(small, kernel, padding=(0, 4)), kernel.mT, padding=(4, 0))
    shift = numbers[:, CAMERA.index("shadow_x")]
    theta = torch.zeros(n, 2, 3, device=cover.device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, 0, 2], theta[:, 1, 2] = 1, 1, shift * 2, -0.04
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=False)
    shadow = F.grid_sample(small, grid, align_corners=False)
    return behind * (1 - strength * shadow)


def develop(picture: Tensor, numbers: Tensor) -> Tensor:
    """Exposure, white balance, a soft shoulder and contrast: linear to sRGB in [0, 1]."""
    n = len(picture)
    value = {name: numbers[:, k].view(n, 1, 1, 1) for k, name in enumerate(CAMERA)}
    gains = torch.cat([1 + value["red"], torch.ones_like(value["red"]), 1 + value["blue"]], dim=1)
    picture = (picture * gains * torch.exp(value["exposure"] + math.log(0.92))).clamp_min(0)
    knee = 0.75  # highlights roll off above
    over = (picture - knee).clamp_min(0)
    picture = picture.clamp_max(knee) + (1 - knee) * (1 - torch.exp(-over / (1 - knee)))
    grey = picture.mean(dim=1, keepdim=True)
    picture = (grey + (picture - grey) * value["saturation"]).clamp(0, 1)
    shown = display(picture) ** value["gamma"]
    curve = shown * shown * (3 - 2 * shown)
    return (shown + value["contrast"] * (curve - shown)).clamp(0, 1)


def _camera(picture: Tensor, numbers: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, sensor noise and JPEG, each in its own strength for every picture."""
    n = len(picture)
    value = {name: numbers[:, k] for k, name in enumerate(CAMERA)}
    picture = _blur(picture, value["blur"])
    noise = torch.randn(picture.shape, generator=generator, device=picture.device)
    strength = value["noise"].view(n, 1, 1, 1) * (0.5 + picture.clamp_min(0).sqrt())
    picture = (picture + noise * strength).clamp(0, 1)
    lossy = value["jpeg"] > 0
    if lossy.any():
        picture = picture.clone()
        picture[lossy] = jpeg(picture[lossy], value["jpeg"][lossy])
    return picture


def _blur(picture: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with one sigma [N] in pixels a picture."""
    n, c, _, _ = picture.shape
    steps = torch.arange(-3, 4, device=picture.device).float()
    kernel = torch.exp(-0.5 * (steps / sigma.view(n, 1)).square())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(c, 0)
    rows = F.pad(picture.reshape(1, n * c, *picture.shape[2:]), (3, 3, 3, 3), mode="replicate")
    rows = F.conv2d(rows, kernel.view(n * c, 1, 1, 7), groups=n * c)
    return F.conv2d(rows, kernel.view(n * c, 1, 7, 1), groups=n * c).reshape(picture.shape)


def jpeg(picture: Tensor, strength: Tensor) -> Tensor:
    """What JPEG does to a picture [N, 3, H, W] in [0, 1]: 8×8 cosine blocks, quantised; strength [N] in (0, 1]."""
    n, _, h, w = picture.shape
    k = torch.arange(8, device=picture.device).float()
    cosine = torch.cos((2 * k.view(1, 8) + 1) * k.view(8, 1) * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2)
    r, g, b = picture.unbind(1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    planes = torch.stack([luma, (b - luma) * 0.564, (r - luma) * 0.713], dim=1)
    planes = F.pad(planes, (0, -w % 8, 0, -h % 8), mode="replicate")
    blocks = planes.unfold(2, 8, 8).unfold(3, 8, 8)
    spectrum = cosine @ blocks @ cosine.T
    # Standard tables rise about linearly with frequency; chroma is cut harder.
    steep = torch.tensor([1.0, 2.2, 2.2], device=picture.device).view(1, 3, 1, 1, 1, 1)
    table = (0.012 + 0.011 * (k.view(8, 1) + k.view(1, 8))) * steep * strength.view(n, 1, 1, 1, 1, 1) * 3
    spectrum = torch.round(spectrum / table) * table
    blocks = cosine.T @ spectrum @ cosine
    rows, columns = blocks.shape[2:4]
    planes = blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, 3, rows * 8, columns * 8)[:, :, :h, :w]
    luma, blue, red = planes.unbind(1)
    r, b = luma + red / 0.713, luma + blue / 0.564
    return torch.stack([r, (luma - 0.299 * r - 0.114 * b) / 0.587, b], dim=1).clamp(0, 1)


def _shop_photo(
    fabric: Tensor, gloss: Tensor, shop: Batch, numbers: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Shop photos [N, 3, H, W] in [0, 1]; numbers [N, len(SHOP)]."""
    n = len(fabric)
    value = {name: numbers[:, k].view(n, 1, 1, 1) for k, name in enumerate(SHOP)}
    cover = shop["shop_garment"][..., 0].float().unsqueeze(1) / 255
    light, mirror = unpack(shop["shop_light"]).unsqueeze(1), unpack(shop["shop_gloss"]).unsqueeze(1)
    picture = display((fabric * light + 0.7 * gloss * mirror) * torch.exp(value["exposure"]))
    table = torch.cat([value["white"] + value["tint"], value["white"], value["white"] - value["tint"]], dim=1)
    wide = F.avg_pool2d(F.avg_pool2d(cover, 9, 1, 4), 9, 1, 4)
    shadow = F.pad(wide, (0, 0, 4, 0))[:, :, : cover.shape[2]] * (1 - cover)
    ground = (table * (1 - value["shadow"] * shadow)).clamp(0, 1)
    picture = picture * cover + ground * (1 - cover)
    if generator is not None:
        picture = _blur(picture, value["blur"].flatten())
        picture = picture + value["noise"] * torch.randn(
            picture.shape, generator=generator, device=picture.device
        )
    return picture.clamp(0, 1)
