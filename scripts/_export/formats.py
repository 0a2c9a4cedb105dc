"""The kinds of file that a derainer is exported as: how each is written, and read back as its users read it."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts._export.network import INPUT, OUTPUT, SMALLEST_SIDE, AnySize
from util.errors import UserError

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
    # Beside each piece of code lie the places in source files that it came from, on this machine.
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
