"""Each data set's parse labels as `Label`s: tables of 256 entries, 255 for unused numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rmgn.data.people.layers import LABELS as LAYER_LABELS
from rmgn.data.sample import Label

Table = npt.NDArray[np.uint8]
UNKNOWN = 255


def _table(labels: Mapping[int, Label]) -> Table:
    table = np.full(256, UNKNOWN, np.uint8)
    for number, label in labels.items():
        table[number] = label
    return table


# VITON as ACGPN and PF-AFN number it. 7 ("noise") is treated as upper clothes, as PF-AFN does.
VITON = _table(
    {
        0: Label.BACKGROUND,
        1: Label.HAIR,
        4: Label.UPPER,
        5: Label.LEFT_SHOE,
        6: Label.RIGHT_SHOE,
        7: Label.UPPER,
        8: Label.LOWER,
        9: Label.LEFT_LEG,
        10: Label.RIGHT_LEG,
        11: Label.LEFT_ARM,
        12: Label.FACE,
        13: Label.RIGHT_ARM,
    }
)

# The 20 classes of LIP and CIHP, which VITON-HD and MPV use. 10 is CIHP's bare torso: neck and neckline.
# Both sets exchange whatever covers the chest: dresses and coats count as upper clothes.
LIP = _table(
    {
        0: Label.BACKGROUND,
        1: Label.HAT,
        2: Label.HAIR,
        3: Label.ACCESSORY,  # gloves
        4: Label.FACE,  # glasses
        5: Label.UPPER,
        6: Label.UPPER,  # dress
        7: Label.UPPER,  # coat
        8: Label.SOCKS,
        9: Label.LOWER,
        10: Label.NECK,
        11: Label.ACCESSORY,  # scarf
        12: Label.LOWER,  # skirt
        13: Label.FACE,
        14: Label.LEFT_ARM,
        15: Label.RIGHT_ARM,
        16: Label.LEFT_LEG,
        17: Label.RIGHT_LEG,
        18: Label.LEFT_SHOE,
        19: Label.RIGHT_SHOE,
    }
)

# The 18 classes of ATR, which DressCode uses. Its head includes the neck.
ATR = _table(
    {
        0: Label.BACKGROUND,
        1: Label.HAT,
        2: Label.HAIR,
        3: Label.FACE,  # glasses
        4: Label.UPPER,
        5: Label.LOWER,  # skirt
        6: Label.LOWER,
        7: Label.DRESS,
        8: Label.ACCESSORY,  # belt
        9: Label.LEFT_SHOE,
        10: Label.RIGHT_SHOE,
        11: Label.FACE,
        12: Label.LEFT_LEG,
        13: Label.RIGHT_LEG,
        14: Label.LEFT_ARM,
        15: Label.RIGHT_ARM,
        16: Label.ACCESSORY,  # bag
        17: Label.ACCESSORY,  # scarf
    }
)

_GENERATED = {
    "background": Label.BACKGROUND,
    "hair": Label.HAIR,
    "garment": Label.UPPER,
    "inner": Label.UPPER,
    "lower": Label.LOWER,
    "left leg": Label.LEFT_LEG,
    "right leg": Label.RIGHT_LEG,
    "left arm": Label.LEFT_ARM,
    "face": Label.FACE,
    "right arm": Label.RIGHT_ARM,
}
GENERATED = _table({number: _GENERATED[name] for name, number in LAYER_LABELS.items()})
# Without the plain top under an open one, which is UPPER to whoever describes the person.
GENERATED_GARMENT = _table({LAYER_LABELS["garment"]: Label.UPPER})
