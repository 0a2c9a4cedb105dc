"""What the tests of the peer methods share: a small model by the user's flags, batches, and steps of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import MODELS, create_model
from options.parse import parse_train
from tests.conftest import QUIET
from util.engine.schedule import Progress
from util.engine.step import Stepper

Array = NDArray[np.float64]


def model_of(dataset: Path, name: str, *flags: str) -> Any:
    """The model for training."""
    torch.manual_seed(0)
    return create_model(parse_train(["--dataroot", str(dataset), "--model", name, *QUIET, *flags]), training=True)


def batch_of(model: str, count: int, size: int, seed: int = 0) -> dict[str, Any]:
    """Random images for each of the model's streams, with the names of files."""
    generator = torch.Generator().manual_seed(seed)
    batch: dict[str, Any] = {}
    for stream in MODELS.get(model).streams:
        batch[stream.name] = torch.rand(count, 3, size, size, generator=generator) * 2 - 1
        batch[f"{stream.name}_paths"] = [f"trainA/{seed}_{number}.png" for number in range(count)]
    return batch


def stepper_of(model: Any) -> Stepper:
    """As train.py makes it, on the CPU."""
    return Stepper(model, device=torch.device("cpu"), precision="fp32", learning_rate=1e-4, betas=(0.5, 0.999), seed=0)


def train(stepper: Stepper, batches: Sequence[Any], places: Sequence[Progress]) -> list[dict[str, float]]:
    """One step on each batch, each of which begins an epoch where its place says so; the losses of each."""
    found = []
    for batch, place in zip(batches, places, strict=True):
        if place.images_in_epoch == 0:
            stepper.on_epoch(place)
        found.append({name: loss.item() for name, loss in stepper.step(batch, place).losses.items()})
    return found


def assert_resumes(make: Any, batches: Sequence[Any], places: Sequence[Progress]) -> None:
    """The last step after a resumed state gives the losses and networks of the uninterrupted training."""
    whole = stepper_of(make())
    train(whole, batches[:-1], places[:-1])
    state = whole.state_dict()
    state = torch.load(_saved(state), weights_only=True)
    expected = train(whole, batches[-1:], places[-1:])
    again = stepper_of(make())
    again.load_state_dict(state)
    again.on_epoch(places[-1])
    assert train(again, batches[-1:], places[-1:]) == expected
    for one, other in zip(whole.model.nets.parameters(), again.model.nets.parameters(), strict=True):
        assert torch.equal(one, other)


def _saved(state: Any) -> Any:
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def assert_changed(model: Any, before: dict[str, Any], names: Sequence[str]) -> None:
    """Exactly these networks have other parameters than before."""
    changed = {
        name
        for name, network in model.nets.items()
        if any(not torch.equal(value, before[name][key]) for key, value in network.named_parameters())
    }
    assert changed == set(names)


def parameters(model: Any) -> dict[str, Any]:
    """Copies of all networks' parameters."""
    return {
        name: {key: value.detach().clone() for key, value in network.named_parameters()}
        for name, network in model.nets.items()
    }


# NumPy's side of a comparison --------------------------------------------------------------------


def array(x: torch.Tensor) -> Array:
    return x.detach().double().numpy()


def convolve(layer: Any, x: Array) -> Array:
    """A convolution of [C, H, W] by its definition: one shifted product for each place of the kernel."""
    weight = array(layer.weight)
    (top, left), (step, _), (dilation, _) = layer.padding, layer.stride, layer.dilation
    x = np.pad(x, [(0, 0), (top, top), (left, left)])
    reach = dilation * (weight.shape[2] - 1)
    rows, columns = ((side - reach - 1) // step + 1 for side in x.shape[1:])
    outputs, per_group = weight.shape[0] // layer.groups, weight.shape[1]
    out = np.zeros((weight.shape[0], rows, columns))
    for group in range(layer.groups):
        part = x[group * per_group : (group + 1) * per_group]
        which = slice(group * outputs, (group + 1) * outputs)
        for i, j in np.ndindex(*weight.shape[2:]):
            window = part[:, i * dilation :, j * dilation :][:, : (rows - 1) * step + 1 : step]
            window = window[:, :, : (columns - 1) * step + 1 : step]
            out[which] += np.einsum("oc,chw->ohw", weight[which, :, i, j], window)
    return out if layer.bias is None else out + array(layer.bias)[:, None, None]


def batch_norm(layer: Any, x: Array) -> Array:
    """In evaluation, of [C, H, W]."""
    scale = array(layer.weight) / np.sqrt(array(layer.running_var) + layer.eps)
    return (x - array(layer.running_mean)[:, None, None]) * scale[:, None, None] + array(layer.bias)[:, None, None]


def relu(x: Array, slope: float = 0.0) -> Array:
    return np.where(x > 0, x, slope * x)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def shaken(network: Any) -> Any:
    """In evaluation and float64, with parameters and statistics that all matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator)
                value.copy_(0.5 + noise if "running_var" in name else value + 0.3 * (noise - 0.5))
    return network.double().eval()
