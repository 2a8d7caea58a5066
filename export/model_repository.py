"""Write a model repository for NVIDIA's Triton Inference Server from a bundle.

python export/model_repository.py --bundle bundles/rmgn --out repository
tritonserver --model-repository repository

Three models: `rmgn_garment` (once a garment), `rmgn_tryon` (once a frame, with the garment's pyramid), and
`rmgn`, an ensemble of both for single pictures. ONNX graphs take batches of any size, which the server makes
of single requests; TensorRT plans are for one picture at a time.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from engines import Bundle, EngineError, load_bundle, tensorrt_engine
from engines.program import Parser, pasted, run
from engines.protocol import TensorSpec
from engines.whole_file import check_folder, naming

NAMES = {"garment": "rmgn_garment", "tryon": "rmgn_tryon"}
ENSEMBLE = "rmgn"
MOST = 1024  # pictures of a batch, and instances
QUEUE_DELAY_US = 2000  # how long a request waits for others: an eighth of a frame at 60 frames a second


def _check_plan(bundle: Bundle, graph: str) -> None:
    try:
        tensorrt_engine.read_manifest(bundle, graph, "tensorrt")
    except EngineError as error:
        raise EngineError(f"{error}, on the server's GPU and with TensorRT itself, not -RTX") from error


def write_repository(
    bundle: Bundle, out: Path, plan: bool = False, max_batch: int = 8, instances: int = 1, kind: str = "AUTO"
) -> Path:
    """Write the repository into `out`, which appears when complete and must not exist.

    plan: serve TensorRT plans in place of ONNX graphs. max_batch: the most pictures of an ONNX model's
    batch; with 1 the graphs stay as they are. instances: of each model, on each device. kind: where they
    run, "AUTO", "CPU" or "GPU".
    Raises EngineError where `out` exists, a plan is missing, or a graph computes batches wrongly.
    """
    if out.name in ("", ".."):
        raise EngineError(f"--out {out} has no name: name the folder to make")
    if out.exists() or out.is_symlink():
        raise EngineError(f"{out} exists; choose another --out or remove it")
    batch = 0 if plan or max_batch == 1 else max_batch  # 0 is the server's word for models without batches
    check_folder(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    with naming(out), tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        work = Path(folder) / out.name
        for graph, name in NAMES.items():
            version = work / name / "1"
            version.mkdir(parents=True)
            if plan:
                _check_plan(bundle, graph)
                shutil.copy(tensorrt_engine.plan_path(bundle, graph, "tensorrt"), version / "model.plan")
            else:
                model = batched(bundle, graph) if batch else onnx.load(bundle.path(graph))
                onnx.save(model, version / "model.onnx")
            specs = bundle.graphs[graph]
            platform = "tensorrt_plan" if plan else "onnxruntime_onnx"
            group = f"instance_group [{{ count: {instances} kind: KIND_{'GPU' if plan else kind} }}]"
            parts = [_head(name, batch, specs.inputs, specs.outputs, platform), group]
            parts += [_batching(batch)] * bool(batch) + [_warm_up(specs.inputs, batch)]
            _write(work / name / "config.pbtxt", parts)
        (work / ENSEMBLE / "1").mkdir(parents=True)  # an ensemble has a version, and nothing in it
        _write(work / ENSEMBLE / "config.pbtxt", _ensemble(bundle, batch))
        work.rename(out)
    return out


def batched(bundle: Bundle, graph: str) -> onnx.ModelProto:
    """A graph of one picture as a graph of any number of them, tried with two different ones.

    Raises EngineError where that does not give what the pictures give one by one.
    """
    model = onnx.load(bundle.path(graph))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    generator = np.random.default_rng(0)
    specs = bundle.graphs[graph].inputs
    pair = {
        spec.name: generator.uniform(spec.low or 0, spec.high or 1, (2, *spec.shape[1:])).astype(np.float32)
        for spec in specs
    }
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        together = session.run(None, pair)
        alone = [session.run(None, {k: v[i : i + 1] for k, v in pair.items()}) for i in range(2)]
    except Exception as error:  # ONNX Runtime's own exception classes share no public base
        reason = str(error).splitlines()[0]
        raise EngineError(f"{bundle.path(graph)} cannot run batches, try --max-batch 1: {reason}") from error
    for both, first, second in zip(together, *alone, strict=True):
        one_by_one = np.concatenate([first, second])
        # Float16 rounds differently by the batch; a wrong picture is far off.
        if both.shape != one_by_one.shape or not np.abs(both - one_by_one).max() <= 0.02:
            raise EngineError(f"{bundle.path(graph)} computes batches wrongly: try --max-batch 1")
    return model


def _head(
    name: str, batch: int, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], platform: str
) -> str:
    def tensors(specs: Sequence[TensorSpec]) -> str:
        lines = [
            f'  {{ name: "{s.name}" data_type: TYPE_FP32 dims: {_dims(s.shape, batch)} }}' for s in specs
        ]
        return "[\n" + ",\n".join(lines) + "\n]"

    return (
        f'name: "{name}"\nplatform: "{platform}"\nmax_batch_size: {batch}\n'
        f"input {tensors(inputs)}\noutput {tensors(outputs)}"
    )


def _dims(shape: Sequence[int], batch: int) -> str:
    """The server puts the batch before the dims itself, where there are batches."""
    return json.dumps(list(shape[1:] if batch else shape))


def _batching(batch: int) -> str:
    sizes = json.dumps([size for size in (2, 4, 8, 16, 32) if size <= batch])
    return (
        f"dynamic_batching {{ preferred_batch_size: {sizes} max_queue_delay_microseconds: {QUEUE_DELAY_US} }}"
    )


def _warm_up(inputs: Sequence[TensorSpec], batch: int) -> str:
    """One run on noise before the model counts as ready: the first one allocates and tunes."""
    lines = [
        f'    inputs {{ key: "{s.name}" value: '
        f"{{ data_type: TYPE_FP32 dims: {_dims(s.shape, batch)} random_data: true }} }}"
        for s in inputs
    ]
    return 'model_warmup [{\n    name: "noise" batch_size: 1\n' + "\n".join(lines) + "\n}]"


def _ensemble(bundle: Bundle, batch: int) -> list[str]:
    inputs = [spec for spec in bundle.graphs["tryon"].inputs if spec.name not in bundle.pyramid]
    steps = []
    for graph, name in NAMES.items():
        specs = bundle.graphs[graph]
        maps = [
            f'    {direction} {{ key: "{spec.name}" value: "{spec.name}" }}'
            for direction, own in (("input_map", specs.inputs), ("output_map", specs.outputs))
            for spec in own
        ]
        steps.append(f'  {{\n    model_name: "{name}" model_version: -1\n' + "\n".join(maps) + "\n  }")
    schedule = "ensemble_scheduling { step [\n" + ",\n".join(steps) + "\n] }"
    return [_head(ENSEMBLE, batch, inputs, bundle.graphs["tryon"].outputs, "ensemble"), schedule]


def _write(path: Path, parts: Sequence[str]) -> None:
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR", help="bundle to serve")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the repository")
    parser.add_argument("--plan", action="store_true", help="serve the bundle's TensorRT plans")
    parser.add_argument(
        "--max-batch", type=int, metavar="N", help="most pictures at once, of ONNX graphs (8)"
    )
    parser.add_argument("--instances", type=int, default=1, metavar="N", help="of each model (1)")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), help="for ONNX graphs (auto)")
    args = parser.parse_args(argv)
    if args.plan and (args.max_batch is not None or args.device is not None):
        parser.error("--plan serves pictures one by one on a GPU: leave --max-batch and --device out")
    args.max_batch = 8 if args.max_batch is None else args.max_batch
    if not (1 <= args.max_batch <= MOST and 1 <= args.instances <= MOST):
        parser.error(f"--max-batch and --instances are 1 to {MOST}")
    return args


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    bundle = load_bundle(args.bundle)
    kind = (args.device or "auto").upper()
    out = write_repository(bundle, args.out, args.plan, args.max_batch, args.instances, kind)
    serve = f"tritonserver --model-repository {pasted(out)}"
    print(f"{out}: {', '.join([*NAMES.values(), ENSEMBLE])}. Serve: {serve}")


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
