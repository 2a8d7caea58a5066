"""Dress layers: fabrics looked up through atlas coordinates, tones, backdrop and camera, batched in torch.

Runs on any device. Pictures are [B, 3, H, W]; colours are linear until the camera, sRGB in [-1, 1] after.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rmgn.data.canvas import HEIGHT, WIDTH
from rmgn.data.develop import blur, develop, display, grain, linear, through_camera
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
    SLEEVE_LEFT,
    SLEEVE_RIGHT,
    TORSO,
    VISIBLE,
)

Batch = dict[str, Tensor]

SKIN, HAIR, LOWER, OTHER = range(4)  # planes of `cover`
TONED = [SKIN, HAIR, OTHER]  # those that have their colour from the albedo

_CACHED = 256 * 192  # pixels whose planes stay in a processor's cache together


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
    """Where pixels lie on garments: one entry for each of P garment pixels, whatever picture it is in."""

    owner: Tensor | slice  # [P] which garment of the batch each belongs to; or all to the one of a slice
    x: Tensor  # [P] metres in the flat garment
    z: Tensor  # [P]
    code: Tensor  # [P] int
    edge: Tensor  # [P] metres to the outline
    seam: Tensor  # [P] metres to the sleeve's seam


def dress(batch: Batch, noise_seed: int = 0, camera: bool = True) -> Dressed:
    """Dress a collated batch (see `GeneratedPeople`) on the device where it lies.

    A sample's pictures depend on its layers and look alone, not on the batch that it is in.

    noise_seed: another one gives other noise.
    camera: False leaves out blur, noise and JPEG, for tests.
    """
    count, _, h, w, _ = batch["garment"].shape
    at_once = max(1, _CACHED // (h * w)) if batch["garment"].device.type == "cpu" else count
    parts = [
        _dress({name: planes[k : k + at_once] for name, planes in batch.items()}, noise_seed, camera)
        for k in range(0, count, at_once)
    ]
    return parts[0] if len(parts) == 1 else Dressed(*(torch.cat(p) for p in zip(*parts, strict=True)))


def _dress(batch: Batch, noise_seed: int, camera: bool) -> Dressed:
    n = 2 * len(batch["garment"])
    looks = {k: batch[k].flatten(0, 1) for k in _GARMENT_LOOK}
    worn = {k: batch[k].flatten(0, 1) for k in ("garment", "place", "cover", "light", "gloss", "albedo")}
    shop = {k: batch[k].flatten(0, 1) for k in ("shop_garment", "shop_light", "shop_gloss")}

    x, z = worn_place(worn["place"])
    worn_fabric = _fabric(worn["garment"], x, z, looks)
    flat_x, flat_z = shop_place(shop["shop_light"], looks["shop_place"])
    flat_fabric = _fabric(shop["shop_garment"], flat_x, flat_z, looks)
    gloss = looks["numbers"][:, NUMBERS.index("gloss")].view(n, 1, 1, 1)

    light, mirror = unpack(worn["light"]).movedim(-1, 1), unpack(worn["gloss"])[:, None]
    picture = worn["garment"][..., 0:1].movedim(-1, 1) / 255 * (worn_fabric * light + gloss * mirror)
    person, cover = _person(batch, worn, light, mirror)
    cover = cover + worn["garment"][..., 0].unsqueeze(1) / 255
    numbers = batch["camera"].repeat_interleave(2, 0)
    behind = _backdrop(batch["backdrop"], cover, numbers)
    gain = batch["gain"].repeat_interleave(2, 0).view(n, 1, 1, 1)
    linear_picture = (picture + person) * gain + behind * (1 - cover).clamp(0, 1)
    people = develop(linear_picture, numbers)
    if camera:
        people = through_camera(people, numbers, grain(batch["grain"][:, 0] + noise_seed, people))

    mask = (shop["shop_garment"][..., 0] > 127).unsqueeze(1)
    photo = _shop_photo(flat_fabric, gloss, shop, batch["shop"].flatten(0, 1))
    if camera:
        value = {name: batch["shop"][..., k].flatten() for k, name in enumerate(SHOP)}
        photo = blur(photo, value["blur"], 2)
        noise = grain(batch["grain"][:, 1] + noise_seed, photo)
        photo = (photo + noise.mul_(value["noise"].view(n, 1, 1, 1))).clamp_(0, 1)
    flow, visible = flows(x, z, worn["garment"], looks["shop_place"])
    return Dressed(
        _paired(people) * 2 - 1,
        _paired(photo) * 2 - 1,
        _paired(mask.float()),
        _paired(worn["garment"][..., 0].float().unsqueeze(1) / 255),
        _paired(flow),
        _paired(visible),
        batch["labels"].long(),
        batch["parts"].long(),
        (batch["depth"].int() & 0xFFFF) / 1000,
    )


def _paired(planes: Tensor) -> Tensor:
    """[2B, ...] to [B, 2, ...]."""
    return planes.view(-1, 2, *planes.shape[1:])


NECK_INSIDE = 0.06  # metres from the neckline, as far as its distance is stored
_GARMENT_LOOK = ("tile", "palette", "band", "overlay", "numbers", "shop_place", "front", "sleeve_angle")


def unpack(stored: Tensor) -> Tensor:
    """uint8 light, gloss or albedo to linear float."""
    return stored.float().square() * (LIGHT_MAX / 255**2)


def worn_place(place: Tensor) -> tuple[Tensor, Tensor]:
    """Flat x and z in metres, [N, H, W] each, from places around their zero: int16 [N, H, W, 4]."""
    return place[..., 0] * PLACE_UNIT, place[..., 1] * PLACE_UNIT


def shop_place(like: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Flat x and z of a shop photo's pixels [N, H, W], since its plane is the atlas.

    place [N, 4]: x and z of its middle, half height in metres, roll in radians.
    """
    n, h, w = like.shape
    x = (torch.arange(w, device=like.device) + 0.5) / w * 2 - 1
    y = (torch.arange(h, device=like.device) + 0.5) / h * 2 - 1
    right, up = (x * w / h).view(1, 1, w), -y.view(1, h, 1)
    cx, cz, half, roll = (place[:, k].view(n, 1, 1) for k in range(4))
    c, s = torch.cos(roll), torch.sin(roll)
    return cx + half * (c * right - s * up), cz + half * (s * right + c * up)


def _groups(where: Tensor) -> Iterator[tuple[Tensor | slice, Tensor]]:
    """The pixels [N, H, W] that are True, as owner and index into N·H·W.

    One group a picture on a CPU, where the owner's numbers are then broadcast and all stays in its cache; one
    group of all pictures elsewhere, where few large operations are faster.
    """
    return _one_by_one(where) if where.device.type == "cpu" else _together(where)


def _one_by_one(where: Tensor) -> Iterator[tuple[Tensor | slice, Tensor]]:
    for k, there in enumerate(where.flatten(1)):
        yield slice(k, k + 1), there.nonzero()[:, 0] + k * there.numel()


def _together(where: Tensor) -> Iterator[tuple[Tensor | slice, Tensor]]:
    at = where.flatten().nonzero()[:, 0]
    yield at // where[0].numel(), at


def _fabric(garment: Tensor, x: Tensor, z: Tensor, looks: Batch) -> Tensor:
    """Albedo [N, 3, H, W] of garments in pictures: planes uint8 [N, H, W, 4] and flat places [N, H, W]."""
    n, h, w, _ = garment.shape
    colours = torch.zeros(n * h * w, 3, device=garment.device)
    planes, x, z = garment.view(-1, 4), x.reshape(-1), z.reshape(-1)
    for owner, at in _groups(garment[..., 0] > 0):
        _, code, edge, seam = planes[at].T
        cloth = Cloth(owner, x[at], z[at], code.int(), edge * EDGE_UNIT, seam * EDGE_UNIT)
        colours[at] = fabric_colour(cloth, looks).T
    return colours.view(n, h, w, 3).permute(0, 3, 1, 2)


def flows(x: Tensor, z: Tensor, garment: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The true flow [N, 2, H, W] of worn pixels into the shop photo, and where it is visible [N, 1, H, W]."""
    n, h, w = x.shape
    cx, cz, half, roll = (place[:, k].view(n, 1, 1) for k in range(4))
    c, s = torch.cos(roll), torch.sin(roll)
    dx, dz = (x - cx) / half, (z - cz) / half
    there = garment[..., 0] > 0
    grid = torch.stack([(c * dx + s * dz) * h / w, s * dx - c * dz], dim=1)
    visible = there & ((garment[..., 1] & VISIBLE) > 0) & (garment[..., 0] > 127)
    return torch.where(there.unsqueeze(1), grid, torch.zeros_like(grid)), visible.unsqueeze(1)


def _look_up(texture: Tensor, owner: Tensor | slice, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear lookup [C, P] in its owner's texture, uint8 [N, C, h, w], at texels (x, y), centres at .5.

    The textures lie below one another in one picture, so they need a margin of one texel.
    """
    if isinstance(owner, slice):
        texture = texture[owner]
    else:
        y = y + owner * texture.shape[2]
    n, c, h, w = texture.shape
    tall = texture.movedim(1, 0).reshape(1, c, n * h, w).float() / 255
    grid = torch.stack([2 * x / w - 1, 2 * y / (n * h) - 1], dim=-1).view(1, 1, -1, 2)
    return F.grid_sample(tall, grid, mode="bilinear", align_corners=False)[0, :, 0]


def _sample_tile(tile: Tensor, owner: Tensor | slice, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Repeating tiles at (s, t) in metres, t upwards: shares of two colours and weave, [P] each."""
    size = tile.shape[-1]
    padded = torch.cat([tile[..., -1:], tile, tile[..., :1]], dim=-1)
    padded = torch.cat([padded[..., -1:, :], padded, padded[..., :1, :]], dim=-2)
    across, along = s / (TILE * TEXEL), -t / (TILE * TEXEL)
    texel = _look_up(padded, owner, (across - across.floor()) * size + 1, (along - along.floor()) * size + 1)
    return texel[0], texel[1], texel[2] * (255 / 128)


def _sample_overlay(overlay: Tensor, owner: Tensor | slice, x: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Overlays at x from the middle, `down` (negative) below the top: linear colour [3, P], opacity [P]."""
    h, w = overlay.shape[2:]
    column, row = (x / (WIDTH * TEXEL) + 0.5) * w, -down / (HEIGHT * TEXEL) * h
    column, row = column.clamp(-0.5, w + 0.5), row.clamp(-0.5, h + 0.5)
    over = _look_up(F.pad(overlay, (1, 1, 1, 1)), owner, column + 1, row + 1)
    return linear((over[:3] / over[3].clamp_min(1e-3)).clamp_max(1)), over[3]


def fabric_colour(cloth: Cloth, look: Batch) -> Tensor:
    """Linear albedo [3, P] of each pixel's cloth.

    look: tile uint8 [N, 3, T, T], palette [N, 3, 3], band [N, 3], overlay uint8 [N, 4, h, w], numbers
    [N, len(NUMBERS)], front [N, 2] (z of hem and neckline), sleeve_angle [N] in radians.
    """
    owner = cloth.owner
    number = dict(zip(NUMBERS, look["numbers"].T[:, owner], strict=True))
    bottom, top = look["front"].T[:, owner]
    panel = cloth.code & PANEL
    back = (cloth.code & BACK) > 0
    sleeve = (panel == SLEEVE_LEFT) | (panel == SLEEVE_RIGHT)

    # The grain runs down the torso and along the sleeves.
    angle = look["sleeve_angle"][owner] * ((panel == SLEEVE_LEFT).int() - (panel == SLEEVE_RIGHT).int())
    angle = angle + number["turn"]
    down = cloth.z - top
    c, s = torch.cos(angle) / number["scale"], torch.sin(angle) / number["scale"]
    apart = sleeve * 0.137 + (panel == COLLAR) * 0.071 + back * 0.033
    along_x, along_z = c * cloth.x + s * down, c * down - s * cloth.x
    second, third, weave = _sample_tile(look["tile"], owner, along_x + apart, along_z + apart)

    share = (cloth.z - bottom) / (top - bottom)
    block = (share < number["block_low"]) & (number["block_low"] < 1)
    stripe_block = block & (share > number["block_high"])
    contrast = sleeve & (number["sleeve_contrast"] > 0.5)
    collar = (panel == COLLAR) & (number["collar_contrast"] > 0.5)
    ground, stripe, accent = look["palette"].permute(1, 2, 0)[:, :, owner]
    band = look["band"].T[:, owner]
    patterned = ~(block | contrast | collar)
    second = torch.where(patterned, second, ((block & ~stripe_block & ~collar) | contrast).float())
    third = torch.where(patterned, third, (stripe_block & ~collar & ~contrast).float())
    ground = torch.where(collar & ~contrast, band, ground)
    albedo = ground * (1 - second - third) + stripe * second + accent * third

    colour, opacity = _sample_overlay(look["overlay"], owner, cloth.x, down)
    opacity = opacity * (~back & (panel == 0))
    albedo = _trims((albedo * (1 - opacity) + colour * opacity) * weave, cloth, band, number)
    return _inside(albedo, cloth, number)


def _trims(albedo: Tensor, cloth: Cloth, band: Tensor, number: Batch) -> Tensor:
    """Bands, stitches and the shadow lines of edges and seams."""
    kind = (cloth.code & OUTLINE) >> OUTLINE_SHIFT
    width = torch.where(kind == 0, number["neck_band"], number["hem_band"])
    width = torch.where(kind == 2, number["cuff_band"], width)
    banded = width > 0
    inside = ((width - cloth.edge) / 0.003 + 0.5).clamp(0, 1) * banded
    albedo = albedo * (1 - inside) + band * inside
    line_at = torch.where(banded, width, number["stitch"])
    line = torch.where(banded, 0.35, 0.22 * (line_at > 0)) * torch.exp(
        -((cloth.edge - line_at) / 0.002).square()
    )
    line = line + 0.18 * torch.exp(-(cloth.edge / 0.0025).square())
    line = line + number["seam_line"] * torch.exp(-(cloth.seam / 0.0022).square())
    return albedo * (1 - line.clamp(0, 0.6))


def _inside(albedo: Tensor, cloth: Cloth, number: Batch) -> Tensor:
    """The back at the neck, which is seen from inside: the cloth's darker reverse, and a label."""
    neck = ((cloth.code & (BACK | PANEL)) == BACK | TORSO) & ((cloth.code & OUTLINE) == 0)
    near = ((NECK_INSIDE - cloth.edge) / (NECK_INSIDE / 2)).clamp(0, 1)
    albedo = albedo * (1 - number["reverse"] * near * neck)
    below = cloth.edge - number["label_at"]
    label = neck & (below >= 0) & (below < number["label"]) & (cloth.x.abs() < number["label_wide"] / 2)
    return torch.where(label, number["label_tone"], albedo)


def _person(batch: Batch, worn: Batch, light: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """All but the garment, weighted by its cover: picture [N, 3, H, W] and cover [N, 1, H, W]."""
    n, h, w, _ = worn["cover"].shape
    cover = worn["cover"].float() / 255
    diffuse = torch.zeros(n * h * w, 3, device=light.device)
    place = worn["place"].reshape(-1, 4)

    def detail(at: Tensor, k: int) -> Tensor:
        return _class_albedo(worn, at, k).clamp_min(1e-3)

    def skin(who: Tensor | slice, at: Tensor) -> Tensor:
        return batch["skin"][who] * detail(at, SKIN) ** batch["skin_power"][who].unsqueeze(1)

    def hair(who: Tensor | slice, at: Tensor) -> Tensor:  # flatter than the drawn locks
        return batch["hair"][who] * detail(at, HAIR) ** 0.75

    def lower(who: Tensor | slice, at: Tensor) -> Tensor:
        return _lower_colour(batch, who, place[at]).T

    def other(_: Tensor | slice, at: Tensor) -> Tensor:
        return _class_albedo(worn, at, OTHER)

    for k, colour in {SKIN: skin, HAIR: hair, LOWER: lower, OTHER: other}.items():
        share = cover[..., k].reshape(-1, 1)
        for owner, at in _groups(worn["cover"][..., k] > 0):
            diffuse[at] += share[at] * colour(_person_of(owner), at)
    shine = cover @ torch.tensor([0.6, 0.15, 0.3, 1.0], device=cover.device)
    picture = diffuse.view(n, h, w, 3).permute(0, 3, 1, 2) * light + shine.unsqueeze(1) * mirror
    return picture, cover.sum(dim=-1).unsqueeze(1)


def _class_albedo(worn: Batch, at: Tensor, k: int) -> Tensor:
    """Linear albedo [P, 3] of class k at pixels `at` of all N·H·W.

    Layers store one albedo a pixel: relative to a tone for skin and hair, absolute for other things. Where a
    pixel shows two of them their mean suits neither and would shine as a rim; each is then the mean of its
    neighbours that show this class alone, where there are any.
    """
    albedo, cover = worn["albedo"].reshape(-1, 3), worn["cover"].reshape(-1, 4)
    result = unpack(albedo[at])
    shares = cover[at][:, TONED]
    mixed = ((shares > 0).sum(dim=1) > 1).nonzero()[:, 0]
    _, h, w, _ = worn["cover"].shape
    near = _neighbours(at[mixed], h, w)
    there = cover[near]
    alone = (there[..., k] > 0.9 * there[..., TONED].sum(dim=-1, dtype=torch.int32)).unsqueeze(-1)
    total = alone.sum(dim=1)
    mean = (unpack(albedo[near]) * alone).sum(dim=1) / total.clamp_min(1)
    result[mixed] = torch.where(total > 0, mean, result[mixed])
    return result


def _neighbours(at: Tensor, h: int, w: int) -> Tensor:
    """Pixels around each of `at` [P], of all N·H·W: [P, K], those outside moved to the border."""
    reach = max(1, h // 256)
    step = torch.arange(-reach, reach + 1, device=at.device)
    y = ((at // w) % h).view(-1, 1, 1) + step.view(1, -1, 1)
    x = (at % w).view(-1, 1, 1) + step.view(1, 1, -1)
    first = (at // (h * w)).view(-1, 1, 1) * (h * w)
    return (first + y.clamp(0, h - 1) * w + x.clamp(0, w - 1)).flatten(1)


def _person_of(owner: Tensor | slice) -> Tensor | slice:
    """Which person a garment of the batch is worn by: two garments each."""
    if isinstance(owner, slice):
        return slice(owner.start // 2, owner.start // 2 + 1)
    return owner // 2


def _lower_colour(batch: Batch, owner: Tensor | slice, place: Tensor) -> Tensor:
    """Linear albedo [3, P] of trousers and skirts; owner of each or of all, place int16 [P, 4]."""
    x, down = (place[:, 2:] * PLACE_UNIT).unbind(1)
    second, third, weave = _sample_tile(batch["lower_tile"], owner, x, down)
    ground, stripe, accent = batch["lower_palette"].permute(1, 2, 0)[:, :, owner]
    cloth = (ground * (1 - second - third) + stripe * second + accent * third) * weave
    colour, opacity = _sample_overlay(batch["lower_overlay"], owner, x, down)
    return cloth * (1 - opacity) + colour * opacity


def _backdrop(backdrop: Tensor, cover: Tensor, numbers: Tensor) -> Tensor:
    """The backdrop uint8 [B, H, W, 3] made linear [2B, 3, H, W], with the person's soft shadow on it."""
    levels = linear(torch.arange(256, device=backdrop.device) / 255)
    behind = levels[backdrop.movedim(-1, 1).int()].repeat_interleave(2, 0)
    n, _, h, w = behind.shape
    strength = numbers[:, CAMERA.index("shadow")].view(n, 1, 1, 1)
    small = F.avg_pool2d(cover, max(1, h // 32), ceil_mode=True)
    kernel = torch.exp(-torch.linspace(-2, 2, 9, device=cover.device).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, 9)
    small = F.conv2d(F.conv2d(small, kernel, padding=(0, 4)), kernel.mT, padding=(4, 0))
    shift = numbers[:, CAMERA.index("shadow_x")]
    theta = torch.zeros(n, 2, 3, device=cover.device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, 0, 2], theta[:, 1, 2] = 1, 1, shift * 2, -0.04
    grid = F.affine_grid(theta, [n, 1, h, w], align_corners=False)
    shadow = F.grid_sample(small, grid, align_corners=False)
    return behind * (1 - strength * shadow)


def _shop_photo(fabric: Tensor, gloss: Tensor, shop: Batch, numbers: Tensor) -> Tensor:
    """Shop photos [N, 3, H, W] in [0, 1]; numbers [N, len(SHOP)]."""
    n = len(fabric)
    value = {name: numbers[:, k].view(n, 1, 1, 1) for k, name in enumerate(SHOP)}
    cover = shop["shop_garment"][..., 0].float().unsqueeze(1) / 255
    light, mirror = unpack(shop["shop_light"]).unsqueeze(1), unpack(shop["shop_gloss"]).unsqueeze(1)
    picture = display((fabric * light + 0.7 * gloss * mirror) * torch.exp(value["exposure"]))
    table = torch.cat([value["white"] + value["tint"], value["white"], value["white"] - value["tint"]], dim=1)
    step = max(1, cover.shape[2] // 64)
    wide = F.avg_pool2d(F.avg_pool2d(cover, step, ceil_mode=True), 5, 1, 2)
    wide = F.interpolate(wide, cover.shape[2:], mode="bilinear", align_corners=False)
    shadow = F.pad(wide, (0, 0, step, 0))[:, :, : cover.shape[2]] * (1 - cover)
    ground = (table * (1 - value["shadow"] * shadow)).clamp(0, 1)
    return torch.lerp(ground, picture, cover).clamp_(0, 1)
