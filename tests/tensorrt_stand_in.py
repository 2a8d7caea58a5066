"""Plays TensorRT's part in building the plugins of kernels.tensorrt_plugins, where its libraries are absent.

`tensorrt.plugin` has two halves. The one in Python, which checks signatures and drives the functions that a
plugin registers, is NVIDIA's own: it comes with the package tensorrt-cu13-bindings and runs here as it is.
The one in C++ needs the libraries; `binding()` stands in for the few classes of it that the Python half
touches, after NVIDIA's documentation of them. Run as a program it builds every plugin in the order in which
TensorRT calls, and prints what TensorRT would get, as JSON.

    python tests/tensorrt_stand_in.py DIR      # writes the PTX into DIR
"""

import enum
import importlib
import importlib.util
import json
import math
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHAPES: dict[str, list[tuple[int, ...]]] = {  # of the inputs, none of them round
    "FlowWarpBorder": [(1, 19, 9, 13), (1, 2, 18, 26)],
    "FlowWarpZeros": [(1, 1, 9, 13), (1, 2, 18, 26)],
    "ComposeFlowCentres": [(1, 2, 9, 13), (1, 2, 9, 13)],
    "ComposeFlowCorners": [(1, 2, 9, 13), (1, 2, 9, 13)],
    "LocalCorrelation": [(1, 5, 9, 13), (1, 5, 9, 13)],
    "PlaneStatistics": [(1, 19, 37, 33)],
    "RegionalMask": [(1, 19, 9, 13), (1, 19), (1, 19), (19,), (1,)],
    "Blend": [*[(1, 19, 9, 13)] * 5, (1, 1, 9, 13), (1, 19), (1, 19)],
    "BlendResidual": [*[(1, 19, 9, 13)] * 5, (1, 1, 9, 13), (1, 19), (1, 19)],
}


def available() -> bool:
    """Whether NVIDIA's Python half is installed."""
    return importlib.util.find_spec("tensorrt_bindings") is not None


class Expression:
    """IDimensionExpr: a size, here always a constant."""

    def __init__(self, value: int) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return True

    def get_constant_value(self) -> int:
        return self.value


class ExpressionBuilder:
    """IExprBuilder: makes sizes of numbers and of other sizes."""

    def constant(self, value: int) -> Expression:
        return Expression(value)

    def operation(self, operation: Any, first: Expression, second: Expression) -> Expression:
        a, b = first.value, second.value
        results = {"SUM": a + b, "SUB": a - b, "PROD": a * b, "MAX": max(a, b), "MIN": min(a, b)}
        if operation.name in ("FLOOR_DIV", "CEIL_DIV"):
            results = {"FLOOR_DIV": a // b, "CEIL_DIV": -(-a // b)}
        return Expression(results[operation.name])


class Described:
    """PluginTensorDesc, and with itself as `desc` DynamicPluginTensorDesc, of a fixed shape."""

    def __init__(self, dims: Sequence[int] = (), type: Any = None, format: Any = None) -> None:
        self.dims, self.type, self.format, self.scale = tuple(dims), type, format, 0.0
        self.desc = self


class Scalars(dict[int, Any]):
    """ISymExprs: what a kernel takes besides pointers."""

    nbSymExprs = 0  # noqa: N815 - TensorRT's name


class Registry:
    """IPluginRegistry."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> bool:
        self.creators[creator.name, creator.plugin_version, namespace] = creator
        return True

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators[name, version, namespace]


def binding() -> types.ModuleType:
    """The module `tensorrt`, as much of it as NVIDIA's tensorrt.plugin asks for."""
    trt = types.ModuleType("tensorrt")
    registry = Registry()

    class Dims(tuple[int, ...]):
        MAX_DIMS = 8

    class Logger:
        WARNING = 2

        def log(self, severity: int, message: str) -> None: ...

    def plain(name: str) -> type:
        return type(name, (), {})

    def names(name: str, values: str) -> Any:
        return enum.Enum(name, values.split())

    interfaces = (
        "IPluginV3 IPluginV3QuickCore IPluginV3QuickBuild IPluginV3QuickAOTBuild IPluginV3QuickRuntime "
        "IPluginCreatorV3Quick ITensor ISymExpr IExprBuilder"
    )
    numbers = "FLOAT32 FLOAT64 FLOAT16 INT8 INT16 INT32 INT64 CHAR UNKNOWN"
    vars(trt).update(
        {name: plain(name) for name in interfaces.split()},
        __path__=[],
        Logger=Logger,
        Dims=Dims,
        IDimensionExpr=Expression,
        PluginTensorDesc=Described,
        DynamicPluginTensorDesc=type("DynamicPluginTensorDesc", (Described,), {}),
        DimsExprs=lambda length: [None] * length,
        PluginField=lambda name, data, type: types.SimpleNamespace(name=name, data=data, type=type),
        PluginFieldCollection=list,
        PluginFieldType=names("PluginFieldType", numbers),
        PluginArgType=names("PluginArgType", "INT"),
        PluginArgDataType=names("PluginArgDataType", "INT8 INT16 INT32"),
        DimensionOperation=names("DimensionOperation", "SUM SUB PROD MAX MIN EQUAL LESS FLOOR_DIV CEIL_DIV"),
        DataType=names("DataType", "FLOAT HALF BF16 INT32 INT64 INT8 BOOL FP8 INT4"),
        TensorFormat=names("TensorFormat", "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 HWC"),
        TensorRTPhase=names("TensorRTPhase", "BUILD RUNTIME"),
        QuickPluginCreationRequest=names(
            "QuickPluginCreationRequest", "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT"
        ),
        get_plugin_registry=lambda: registry,
    )
    kinds: Any = vars(trt)["DataType"]
    vars(trt).update(float32=kinds.FLOAT, float16=kinds.HALF, bfloat16=kinds.BF16, int32=kinds.INT32)
    return trt


def load() -> tuple[types.ModuleType, types.ModuleType]:
    """The modules `tensorrt` (the stand-in) and `tensorrt.plugin` (NVIDIA's), entered into sys.modules."""
    found = importlib.util.find_spec("tensorrt_bindings")
    assert found is not None
    assert found.submodule_search_locations is not None
    folder = Path(found.submodule_search_locations[0]) / "plugin"
    trt = sys.modules["tensorrt"] = binding()
    spec = importlib.util.spec_from_file_location(
        "tensorrt.plugin", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    plugin = sys.modules["tensorrt.plugin"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    return trt, plugin


def build(trt: Any, name: str, shapes: Sequence[tuple[int, ...]], combination: int) -> dict[str, Any]:
    """Call one plugin as TensorRT does while it builds; `combination` is one of those that it supports.

    Returns types and shapes of the outputs, and for every tactic the kernel with its launch.
    """
    creator = trt.get_plugin_registry().get_creator(name, "1", "rmgn")
    request = trt.QuickPluginCreationRequest.UNKNOWN  # what the parser passes without flags
    phase = trt.TensorRTPhase.BUILD
    plugin = creator.create_plugin(name, "rmgn", trt.PluginFieldCollection(), phase, request)
    count = len(shapes)

    # Which types it takes is known only after types and shapes were asked for once: do that with float32.
    def start(types_of: Sequence[Any]) -> tuple[list[Any], list[list[int]]]:
        kinds = plugin.get_output_data_types(list(types_of), [len(shape) for shape in shapes])
        expressions = [[Expression(size) for size in shape] for shape in shapes]
        sizes = plugin.get_output_shapes(expressions, [], ExpressionBuilder())
        return kinds, [[size.get_constant_value() for size in shape] for shape in sizes]

    def tensors(kinds: Sequence[Any], sizes: Sequence[Sequence[int]]) -> list[Any]:
        return [
            trt.DynamicPluginTensorDesc(shape, kind, trt.TensorFormat.LINEAR)
            for shape, kind in zip([*shapes, *sizes], kinds, strict=True)
        ]

    kinds, sizes = start([trt.float32] * count)
    everything = count + plugin.get_num_outputs()
    supported = plugin.get_supported_format_combinations(tensors([trt.float32] * everything, sizes), count)
    wanted = [item.type for item in supported[combination * everything :][:everything]]
    kinds, sizes = start(wanted[:count])
    assert kinds == wanted[count:], "the outputs have other types than the combination says"
    descriptions = tensors(wanted, sizes)
    plugin.get_supported_format_combinations(descriptions, count)
    plugin.configure_plugin(descriptions[:count], descriptions[count:])

    kernels = []
    for tactic in plugin.get_valid_tactics():
        plugin.set_tactic(tactic)
        launch, extra = types.SimpleNamespace(), Scalars()
        inputs = [[Expression(size) for size in shape] for shape in shapes]
        plugin.get_launch_params(inputs, descriptions, count, launch, extra, ExpressionBuilder())
        entry, ptx = plugin.get_kernel(descriptions[:count], descriptions[count:])
        values = {key: value.expr.get_constant_value() for key, value in vars(launch).items()}
        kernels.append({"tactic": tactic, "entry": entry, "ptx": ptx.decode(), "launch": values})
        assert extra.nbSymExprs == 0
    return {
        "name": name,
        "types": [kind.name for kind in wanted],
        "combinations": len(supported) // everything,
        "shapes": sizes,
        "kernels": kernels,
    }


def main(out: Path, sm: int = 86) -> None:
    trt, plugin = load()
    plugins = importlib.import_module("kernels.tensorrt_plugins")
    plugins.register(plugin, sm)
    results = []
    for name, shapes in SHAPES.items():
        combinations = 1
        for combination in range(3):
            if combination < combinations:
                results.append(build(trt, name, shapes, combination))
                combinations = results[-1]["combinations"]
    for index, kernel in enumerate(kernel for result in results for kernel in result["kernels"]):
        path = out / f"{index}.ptx"
        path.write_text(kernel.pop("ptx"))
        kernel["ptx"] = path.name
        kernel["threads"] = math.prod(kernel["launch"][f"block_{axis}"] for axis in "xyz")
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
