"""RMGN, a regional mask guided network for parser-free virtual try-on (Lin et al., IJCAI 2022)."""

from rmgn.config import PRESETS, ModelConfig

try:
    from rmgn.model import RMGN, TryOn
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "rmgn needs PyTorch, which the mirror does not: pip install 'rmgn[train]', or rmgn[export] to export",
        name=error.name,
    ) from None

__all__ = ["PRESETS", "RMGN", "ModelConfig", "TryOn"]
