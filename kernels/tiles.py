"""How many pixels and channels a program takes, by the layout of the features."""

from kernels.triton_runtime import power_of_two

Tile = dict[str, int]  # a kernel's constants BLOCK_P and BLOCK_C

BLOCK_PIXELS, BLOCK_CHANNELS = 128, 8
# In NHWC the channels of a pixel lie side by side: a program takes rows of them.
ROW_CHANNELS, ROW_ELEMENTS = 64, 1024


def pixel_block(pixels: int, most: int = BLOCK_PIXELS) -> int:
    """Pixels of a program, a power of two, no more than cover them all."""
    return min(most, max(16, power_of_two(pixels)))


def row_tile(channels: int, pixels: int, elements: int = ROW_ELEMENTS) -> Tile:
    """For NHWC: rows of up to ROW_CHANNELS, as many as make up `elements`."""
    block_c = min(ROW_CHANNELS, power_of_two(channels))
    return {"BLOCK_P": pixel_block(pixels, elements // block_c), "BLOCK_C": block_c}


def plane_tile(channels: int, pixels: int) -> Tile:
    """For NCHW."""
    return {"BLOCK_P": pixel_block(pixels), "BLOCK_C": min(BLOCK_CHANNELS, power_of_two(channels))}


def tile(channels: int, pixels: int, last: bool) -> Tile:
    """For either layout. last: channels last."""
    return row_tile(channels, pixels) if last else plane_tile(channels, pixels)
