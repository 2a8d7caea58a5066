"""The colours of a person's picture around which the generator draws."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPOT = 4  # pixels a side of what has one colour


class Palette(nn.Module):
    """Colours c(y) = Σ_k w_k(y)·P_k with P_k = Σ_x a_k(x)·P̃(x), means of the person's picture P̃.

    Arms that were hidden have the colour of her face and hands. To the deep layers, whose instance norms
    forget colours, that is a difference from the picture's mean, which the old garment decides along with
    all else: drawn around the mean, skin is paler over a white shirt. The learned masks a_k sum to 1 over
    the picture, and the weights w_k of a spot over the K colours. It is not part of the paper.

    Untrained, all masks are even, and c is the picture's mean.
    """

    def __init__(self, width: int, map_width: int, colours: int) -> None:
        super().__init__()
        self.weight = nn.Conv2d(width, colours, 1)
        self.mask = nn.Sequential(
            nn.Conv2d(map_width, 2 * colours, 3, padding=1), nn.ReLU(), nn.Conv2d(2 * colours, colours, 1)
        )
        for parameter in self.mask[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Tensor, person_map: Tensor, person: Tensor) -> Tensor:
        """h [B, C, H/4, W/4] of what is drawn, person_map [B, C', H/4, W/4], person [B, 3, H, W]
        -> c [B, 3, H/4, W/4]."""
        height, width = h.shape[-2:]

        def spots(x: Tensor) -> Tensor:  # as `flatten(2)`, which a graph would keep for a batch of one
            return x.reshape(-1, x.shape[1], height * width)

        seen = spots(F.avg_pool2d(person, SPOT))
        mask = torch.softmax(spots(self.mask(person_map)), dim=2)
        colours = seen @ mask.transpose(1, 2).to(seen.dtype)  # [B, 3, K]
        weight = torch.softmax(spots(self.weight(h)), dim=1)
        return (colours @ weight.to(seen.dtype)).reshape(-1, 3, height, width)
