"""What the kernels rely on: they compute addresses from one tensor's shape and read the others by them."""

from collections.abc import Sequence

from torch import Tensor


def check_shape(name: str, tensor: Tensor, wanted: Sequence[int]) -> None:
    """Raise ValueError unless a tensor has this shape; nothing is broadcast."""
    if tuple(tensor.shape) != tuple(wanted):
        raise ValueError(f"{name} is {list(tensor.shape)}, where {list(wanted)} belongs")
