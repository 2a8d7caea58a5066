"""Run the graphs of a bundle on whatever this machine has: `engines.open(bundle)`."""

from engines.bundle import Bundle
from engines.bundle import load as load_bundle
from engines.protocol import Array, Engine, EngineError, TensorSpec
from engines.session import BACKENDS, Session, open

__all__ = [
    "BACKENDS",
    "Array",
    "Bundle",
    "Engine",
    "EngineError",
    "Session",
    "TensorSpec",
    "load_bundle",
    "open",
]
