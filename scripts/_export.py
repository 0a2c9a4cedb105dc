"""The derainer as one file that needs nothing of this project: made for any image size, written, and compared."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from options import Options
from options.flags import GENERATOR_OPTIONS
from options.schema import shown
from util.environment import ROOT, git_commit
from util.errors import UserError

PRECISIONS = ("fp32", "fp16")
SMALLEST_SIDE = 9  # pixels; below, a ResNet would mirror more than there is, and a residual U-Net pads otherwise
INPUT, OUTPUT = "rainy", "derained"
MADE_BY = "CCLGAN-PyTorch"


class AnySize(nn.Module):
    """``network`` for images [N, C, H, W] of any size in [-1, 1]; the result has that size and range.

    It does what ``util.layers`` and ``util.engine.inference`` do, but without a branch that depends on a size: what
    is recorded of it holds for every size.

    Args:
        network: a network for sides that are multiples of ``stride``; it may also be a traced one.
        half: compute in float16. Input and output stay float32.
    """

    def __init__(self, network: nn.Module, stride: int, *, half: bool = False) -> None:
        super().__init__()
        self.network = network.half() if half else network
        self.stride = stride
        self.half_precision = half

    def forward(self, rainy: Tensor) -> Tensor:
        """Pad at the bottom and right by reflection, derain, crop."""
        height, width = rainy.shape[2], rainy.shape[3]
        image = rainy.half() if self.half_precision else rainy
        image = image.index_select(2, mirrored(height, self.stride, rainy.device))
        image = image.index_select(3, mirrored(width, self.stride, rainy.device))
        output = self.network(image)
        # Unlike a slice, this makes no difference between images that needed padding and those that did not.
        output = output.index_select(2, torch.arange(height, device=rainy.device))
        output = output.index_select(3, torch.arange(width, device=rainy.device))
        return output.float().clamp(-1, 1)


def mirrored(size: int, stride: int, device: torch.device) -> Tensor:
    """Where each position reads from, up to the next multiple of ``stride``: 0, 1, …, size-1, size-2, …, 0, 1, …"""
    positions = torch.arange((size + stride - 1) // stride * stride, device=device)
    last = size - 1
    # The remainder of two tensors: that by a number which is only known later is not translated to ONNX.
    period = torch.full((1,), max(2 * last, 1), dtype=torch.int64, device=device)
    return last - (last - torch.remainder(positions, period)).abs()


def the_network(nets: dict[str, nn.Module]) -> nn.Module:
    """The one network that a model derains with, ready to be recorded.

    Raises:
        UserError: the model has none or several.
    """
    if len(nets) != 1:
        names = ", ".join(nets) or "none"
        raise UserError(f"--model: one network can be exported, but this model derains with {len(nets)} ({names}).")
    return next(iter(nets.values())).eval().requires_grad_(False)


def describe(opt: Options, weights: Path, *, stride: int, precision: str) -> dict[str, str]:
    """What a user of the file must know about it, all as text."""
    return {
        "made_by": MADE_BY,
        "version": project_version(ROOT),
        "commit": git_commit(ROOT),
        "name": opt.name,
        "model": opt.model,
        "weights": weights.name,
        "input": f"{INPUT}: float32 [batch, {opt.input_nc}, height, width], RGB or gray, values / 127.5 - 1",
        "output": f"{OUTPUT}: float32 [batch, {opt.output_nc}, height, width] of the same size, (x + 1) * 127.5",
        "normalization": "[-1, 1]",
        "smallest_side": str(SMALLEST_SIDE),
        "padded_inside_to_multiples_of": str(stride),
        "precision": precision,
        **{name: shown(getattr(opt, name)) for name in GENERATOR_OPTIONS},
    }


def project_version(root: Path) -> str:
    """The version that pyproject.toml states; empty if it is not there."""
    file = root / "pyproject.toml"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    match = re.search(r'^version = "([^"]+)"', text, flags=re.MULTILINE)
    return match[1] if match else ""


Derain = Callable[[Tensor], Tensor]
"""[N, C, H, W] in [-1, 1] → the same."""

METADATA_FILE = "metadata.json"
DEBUG_RECORD = ".debug_pkl"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OLDEST_OPSET = 18  # what PyTorch's exporter writes by itself
AXES = {0: "batch", 2: "height", 3: "width"}
EXAMPLE_STRIDES = (3, 4)  # height and width of the image that is recorded, where a few pixels more are padded
EXAMPLE_REST = (2, 3)


@dataclass(frozen=True)
class Format:
    """``write(module, channels, path, metadata, opset)`` makes the file, ``load(path)`` is how a user runs it."""

    suffixes: tuple[str, ...]
    write: Callable[[AnySize, int, Path, Mapping[str, str], int | None], None]
    load: Callable[[Path], Derain]
    packages: tuple[str, ...] = ()


def check_packages(name: str, packages: Sequence[str]) -> None:
    """Raise :class:`UserError` for packages that a format needs and this environment lacks."""
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise UserError(
            f"--format {name} needs {', '.join(missing)}, which is not installed: pip install {' '.join(missing)}"
        )


def _example(channels: int, stride: int) -> Tensor:
    """An image batch of no special size: two images, each side no multiple of the stride."""
    height, width = (n * stride + rest for n, rest in zip(EXAMPLE_STRIDES, EXAMPLE_REST, strict=True))
    return torch.zeros(2, channels, max(height, SMALLEST_SIDE), max(width, SMALLEST_SIDE))


def record(module: AnySize, channels: int) -> torch.export.ExportedProgram:
    """The module as a graph for every batch size, height and width."""
    import torch.fx.experimental._config as symbolic

    dims = {axis: torch.export.Dim(name, min=1 if axis == 0 else SMALLEST_SIDE) for axis, name in AXES.items()}
    # Without this a U-Net's file would refuse the images that leave a single pixel in its deepest layer.
    with torch.no_grad(), symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(module, (_example(channels, module.stride),), dynamic_shapes=(dims,))
    for node in program.graph.nodes:  # names of files on this machine
        node.meta.pop("stack_trace", None)
    program.example_inputs = None
    return program


def _write_program(module: AnySize, channels: int, path: Path, metadata: Mapping[str, str], opset: int | None) -> None:
    del opset
    program = record(module, channels)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(metadata)})


def _load_program(path: Path) -> Derain:
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _write_script(module: AnySize, channels: int, path: Path, metadata: Mapping[str, str], opset: int | None) -> None:
    del opset
    stride = module.stride
    example = torch.zeros(1, channels, *(n * stride for n in EXAMPLE_STRIDES), dtype=_dtype(module))
    with _quiet():
        traced = torch.jit.trace(module.network, example)
        script = torch.jit.script(AnySize(traced, stride, half=module.half_precision).eval())
        buffer = io.BytesIO()
        torch.jit.save(script, buffer, _extra_files={METADATA_FILE: json.dumps(metadata)})
    # The recorded code contains the paths of the source files it came from on this machine.
    with zipfile.ZipFile(buffer) as archive, zipfile.ZipFile(path, "w") as cleaned:
        for entry in archive.infolist():
            if not entry.filename.endswith(DEBUG_RECORD):
                cleaned.writestr(entry, archive.read(entry))


def _load_script(path: Path) -> Derain:
    with _quiet(), path.open("rb") as file:
        return torch.jit.load(file)


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _write_onnx(module: AnySize, channels: int, path: Path, metadata: Mapping[str, str], opset: int | None) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        raise UserError(f"--opset {opset}: the exporter writes {OLDEST_OPSET} to {newest}; choose one of them.")
    program = record(module, channels)
    with _quiet():
        exported = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamic_shapes=(dict(AXES),),
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    model = exported.model
    if opset is not None and model.opset_imports[""] != opset:
        raise UserError(f"--opset {opset}: the exporter could not write it; leave --opset out.")
    for node in model.graph:
        node.metadata_props.clear()  # names of files on this machine
    model.metadata_props.clear()
    model.metadata_props.update({key: value for key, value in metadata.items() if value})
    model.producer_name, model.producer_version = metadata["made_by"], metadata["version"]
    exported.save(str(path), external_data=False)
    onnx.checker.check_model(str(path), full_check=True)


def _load_onnx(path: Path) -> Derain:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def derain(image: Tensor) -> Tensor:
        (output,) = session.run([OUTPUT], {INPUT: image.numpy()})
        return torch.from_numpy(output)

    return derain


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks to developers; what they say of the result is checked by running it."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


FORMATS: Mapping[str, Format] = {
    "onnx": Format((".onnx",), _write_onnx, _load_onnx, ONNX_PACKAGES),
    "torch_export": Format((".pt2",), _write_program, _load_program),
    "torchscript": Format((".torchscript", ".ts", ".pt"), _write_script, _load_script),
}


def metadata_of(path: Path) -> dict[str, Any]:
    """What a file of any of the formats says about itself."""
    if path.suffix == ".onnx":
        import onnx

        return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    extra: dict[str, Any] = {METADATA_FILE: ""}
    with _quiet(), path.open("rb") as file:
        if path.suffix == ".pt2":
            torch.export.load(file, extra_files=extra)
        else:
            torch.jit.load(file, _extra_files=extra)
    return json.loads(extra[METADATA_FILE])


GRAY_LEVELS = 127.5  # one unit in [-1, 1]
LIMITS = {"fp32": 0.1, "fp16": 4.0}
"""Largest difference of a single value in gray levels. Rounding in another order changes an fp32 result by some
thousandths of a level at most and fp16 by tenths or one or two; a fault, such as a shifted pixel, by many."""

COMMON_SIZES = ((1, 64, 96), (1, 61, 75), (2, 90, 47), (1, 256, 383))
SIZES = {"fp32": ((1, SMALLEST_SIDE, SMALLEST_SIDE), *COMMON_SIZES), "fp16": COMMON_SIZES}
"""Images, height and width: the smallest, whole strides of a ResNet, odd ones, a batch, and a larger one. In the
smallest, instance norm divides by the variance of four numbers, which makes several gray levels of fp16's rounding."""

SEED = 20240719
DETAIL = 0.1  # standard deviation of the noise, in [-1, 1]
BLOT = 12  # pixels


@dataclass(frozen=True)
class Difference:
    """Of two results for one batch: the largest and the mean absolute difference, as values in [-1, 1]."""

    shape: tuple[int, ...]
    largest: float
    mean: float


def pictures(channels: int, sizes: Sequence[tuple[int, int, int]]) -> Iterator[Tensor]:
    """Batches [N, C, H, W] in [-1, 1] of soft blots with noise: what a network knows rather than noise alone."""
    generator = torch.Generator().manual_seed(SEED)
    for count, height, width in sizes:
        small = torch.rand(count, channels, height // BLOT + 2, width // BLOT + 2, generator=generator) * 2 - 1
        smooth = F.interpolate(small, (height, width), mode="bicubic", align_corners=False)
        noise = DETAIL * torch.randn(count, channels, height, width, generator=generator)
        yield (smooth + noise).clamp(-1, 1)


def differences(
    exported: Callable[[Tensor], Tensor], batches: Sequence[Tensor], results: Sequence[Tensor]
) -> list[Difference]:
    """One per batch, from its result; one of another shape, or that is not a number, differs infinitely."""
    found = []
    for batch, expected in zip(batches, results, strict=True):
        ours = exported(batch)
        if ours.shape != expected.shape:
            found.append(Difference(tuple(batch.shape), float("inf"), float("inf")))
            continue
        gap = (ours - expected).abs().nan_to_num(nan=float("inf"))
        found.append(Difference(tuple(batch.shape), gap.max().item(), gap.mean().item()))
    return found


def table(found: Sequence[Difference]) -> str:
    """The differences as lines of text."""
    lines = [f"{'batch':>18}  {'largest':>9}  {'mean':>9}  {'in gray levels: largest':>23}  {'mean':>8}"]
    for each in found:
        shape = "×".join(map(str, each.shape))
        gray = f"{each.largest * GRAY_LEVELS:23.5f}  {each.mean * GRAY_LEVELS:8.5f}"
        lines.append(f"{shape:>18}  {each.largest:9.2e}  {each.mean:9.2e}  {gray}")
    return "\n".join(lines)


def require_parity(found: Sequence[Difference], precision: str) -> None:
    """Raise :class:`UserError` if a difference is larger than rounding explains."""
    worst = max(found, key=lambda difference: difference.largest)
    gray, limit = worst.largest * GRAY_LEVELS, LIMITS[precision]
    if not gray <= limit:
        shape = "×".join(map(str, worst.shape))
        hint = "use --precision fp32" if precision == "fp16" else "use another --format, and report this"
        raise UserError(
            f"the exported network differs from PyTorch by up to {gray:.3g} gray levels ({shape}), more than "
            f"{limit:g}; no file is written; {hint}."
        )
