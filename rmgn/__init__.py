"""RMGN, a regional mask guided network for parser-free virtual try-on (Lin et al., IJCAI 2022)."""

from rmgn.config import PRESETS, ModelConfig
from rmgn.model import RMGN, TryOn

__all__ = ["PRESETS", "RMGN", "ModelConfig", "TryOn"]
