"""The network's three memory-bound operations: mask fusion, flow warp, local correlation."""

from kernels.flow_warp import compose_flow, flow_warp, identity_flow
from kernels.local_correlation import local_correlation
from kernels.mask_fusion import instance_norm, mask_fusion

__all__ = ["compose_flow", "flow_warp", "identity_flow", "instance_norm", "local_correlation", "mask_fusion"]
