"""INT8 by post-training quantisation: which convolutions, with which ranges, written as a QDQ graph.

A convolution in INT8 takes 8-bit inputs (one range a tensor, from calibration) and 8-bit weights (one scale
an output channel); its result, and everything that is no convolution, stays float32. QuantizeLinear and
DequantizeLinear are standard operators of opset 17: OpenVINO fuses them into its INT8 kernels.

Not every layer bears it: those that read the pictures or write the result carry more than 8 bits. The rule
is a measurement. Each group of layers (a residual block, a flow head, a fusion) is quantised alone and its
damage to flow and picture measured. Groups are then taken by arithmetic saved per damage, while all that is
taken stays within a budget: damages of layers neither add up nor stay apart, so the whole is measured.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from torch import Tensor, nn

from engines.reference import flow_error
from engines.tensor_shapes import tensor_shapes

LEAST_CHANNELS = 16  # in and out: below, INT8 instructions run half empty and cost more than they save
PROBES = 2  # calibration samples on which damage is measured

Feeds = Mapping[str, Tensor]


@dataclass(frozen=True)
class Budget:
    """How far INT8 may lie from float32: of the try-on picture, and of the flow on average."""

    psnr: float = 40.0  # dB, at least
    flow_pixels: float = 0.1  # at most

    def share(self, damage: "Damage") -> float:
        """How much of the budget a damage uses up; over 1 is too much."""
        allowed = 4 / 10 ** (self.psnr / 10)  # squared, of a range from -1 to 1
        return max(damage.squared_error / allowed, (damage.flow_pixels / self.flow_pixels) ** 2)


class Damage(NamedTuple):
    """What INT8 does to the results, mean over samples."""

    squared_error: float  # of the try-on picture
    flow_pixels: float


@dataclass(frozen=True)
class Layer:
    """One convolution that may be quantised."""

    node: str  # name in the graph
    tensor: str  # its input there
    module: str  # name in the network
    macs: int


@dataclass(frozen=True)
class Choice:
    """One group of layers: what quantising it alone does, and whether it was taken."""

    group: str
    layers: tuple[Layer, ...]
    damage: Damage
    taken: bool = False

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def quantise(
    module: nn.Module, path: Path, feeds: Sequence[Feeds], budget: Budget, output: Sequence[str]
) -> list[Choice]:
    """Replace the float32 try-on graph at `path` by its INT8 form.

    module: the network that was exported to `path` (export.graphs.TryOnGraph), called with the values of each
    of `feeds` in order; output: the names of its results. Returns what was measured and taken, best first.
    """
    model = onnx.load(str(path))
    groups: dict[str, list[Layer]] = {}
    for layer in candidates(model):
        groups.setdefault(layer.module.rpartition(".")[0], []).append(layer)
    ranges = _calibrate(path, feeds)
    measure = _Measure(module, ranges, feeds[:PROBES], output)
    alone = [Choice(group, tuple(layers), measure(layers)) for group, layers in groups.items()]
    choices = choose(alone, budget, measure)
    taken = [layer.node for choice in choices if choice.taken for layer in choice.layers]
    if taken:
        quantiser = QDQQuantizer(
            model, per_channel=True, reduce_range=False, weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8, tensors_range=ranges, nodes_to_quantize=taken,
            nodes_to_exclude=[], op_types_to_quantize=["Conv"],
            # A result in 8 bits costs 6 dB and saves nothing: what follows is arithmetic in float32.
            extra_options={"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": ["Conv"]},
        )  # fmt: skip
        with _quiet():
            quantiser.quantize_model()
        quantised = quantiser.model.model
        _keep_others_exact(quantised, set(taken))
        onnx.save(quantised, str(path))
    return choices


def _keep_others_exact(model: onnx.ModelProto, taken: set[str]) -> None:
    """Give nodes that were not quantised the tensor itself where they got the 8-bit input of one that was."""
    rounding = ("QuantizeLinear", "DequantizeLinear")
    whole = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == rounding[0]}
    rounded = {
        node.output[0]: whole[node.input[0]]
        for node in model.graph.node
        if node.op_type == rounding[1] and node.input[0] in whole
    }
    for node in model.graph.node:
        if node.op_type not in rounding and node.name not in taken:
            for index, name in enumerate(node.input):
                node.input[index] = rounded.get(name, name)


def candidates(model: onnx.ModelProto) -> list[Layer]:
    """The convolutions wide enough for INT8 to pay, with the names that the exporter gave their weights."""
    shapes = tensor_shapes(model)
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        weight = weights.get(node.input[1], [0, 0]) if node.op_type == "Conv" else [0, 0]
        if min(weight[:2]) >= LEAST_CHANNELS:
            pixels = int(np.prod(shapes[node.output[0]][2:]))
            name = node.input[1].removesuffix(".weight")
            layers.append(Layer(node.name, node.input[0], name, pixels * int(np.prod(weight))))
    return layers


def choose(
    choices: Sequence[Choice], budget: Budget, measure: Callable[[Sequence[Layer]], Damage]
) -> list[Choice]:
    """Take groups, by arithmetic saved per damage, while all that is taken stays within the budget together.

    measure: the damage of layers that are in INT8 at once. It is taken to grow with every further group: how
    many fit in order is found by bisection, then those behind are tried one by one.
    """
    ranked = sorted(choices, key=lambda choice: budget.share(choice.damage) / choice.macs)
    bearable = [choice for choice in ranked if budget.share(choice.damage) <= 1]

    def fits(groups: Sequence[Choice]) -> bool:
        return budget.share(measure([layer for choice in groups for layer in choice.layers])) <= 1

    fitting, too_many = 0, len(bearable) + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        fitting, too_many = (middle, too_many) if fits(bearable[:middle]) else (fitting, middle)
    taken = bearable[:fitting]
    for choice in bearable[too_many:]:
        if fits([*taken, choice]):
            taken.append(choice)
    names = {choice.group for choice in taken}
    return [replace(choice, taken=choice.group in names) for choice in ranked]


class _Measure:
    """Damage of layers in INT8: the network with their inputs and weights rounded, against as it is."""

    def __init__(
        self, module: nn.Module, ranges: TensorsData, feeds: Sequence[Feeds], output: Sequence[str]
    ) -> None:
        self._module, self._ranges, self._feeds = module, ranges, feeds
        self._flow, self._tryon = output.index("flow"), output.index("tryon")
        self._expected = self._run()

    def __call__(self, layers: Sequence[Layer]) -> Damage:
        with contextlib.ExitStack() as stack:
            for layer in layers:
                low, high = (
                    float(np.asarray(value).item()) for value in self._ranges[layer.tensor].range_value
                )
                conv = self._module.get_submodule(layer.module)
                assert isinstance(conv, nn.Conv2d)
                stack.enter_context(_in_int8(conv, low, high))
            results = self._run()
        squares, pixels = [], []
        for a, b in zip(results, self._expected, strict=True):
            squares.append(float(((a[self._tryon] - b[self._tryon]) ** 2).mean()))
            pixels.append(flow_error(a[self._flow].numpy(), b[self._flow].numpy()))
        return Damage(float(np.mean(squares)), float(np.mean(pixels)))

    def _run(self) -> list[tuple[Tensor, ...]]:
        with torch.inference_mode():
            return [self._module(*feed.values()) for feed in self._feeds]


@contextlib.contextmanager
def _in_int8(conv: nn.Conv2d, low: float, high: float) -> Iterator[None]:
    """Round a convolution's inputs and weights to what INT8 holds, while in this context."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    weight = conv.weight
    scales = weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / 127
    rounded = torch.fake_quantize_per_channel_affine(
        weight.detach(), scales, torch.zeros_like(scales, dtype=torch.int32), 0, -127, 127
    )
    hook = conv.register_forward_pre_hook(
        lambda _, inputs: (torch.fake_quantize_per_tensor_affine(inputs[0], scale, zero, 0, 255),)
    )
    conv.weight = nn.Parameter(rounded, requires_grad=False)
    try:
        yield
    finally:
        conv.weight = weight
        hook.remove()


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        feed = next(self._feeds, None)
        return None if feed is None else {name: value.numpy() for name, value in feed.items()}


def _calibrate(path: Path, feeds: Sequence[Feeds]) -> TensorsData:
    """Least and greatest value of every convolution's input over all feeds."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        calibrator = create_calibrator(path, ["Conv"], str(Path(folder) / "augmented.onnx"))
        calibrator.collect_data(_Reader(feeds))
        return calibrator.compute_data()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice to simplify the graph first, which it has been."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
