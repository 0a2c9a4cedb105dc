"""What architecture a state dict belongs to, in terms of the flags, to explain why it does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.networks.resunet import FOLD

State = Mapping[str, Tensor]


def describe_state(state: State) -> dict[str, str]:
    """Flag → value, as far as keys and shapes tell; empty for an unknown layout."""
    if any(".conv_block." in key for key in state):
        return _describe_resnet(state)
    if "model.model.0.weight" in state:
        return {"--netG": f"U-Net of {_unet_levels(state)} levels", "--ngf": _width(state, "model.model.0.weight")}
    if "stem.weight" in state:
        return {f"--{name}": value for name, value in _describe_resunet(state).items()}
    if "net.0.weight" in state:
        return {"--netD": "pixel", "--ndf": _width(state, "net.0.weight")}
    if "mlp_0.0.weight" in state:
        heads = {key.split(".")[0] for key in state}
        return {"projected layers": str(len(heads)), "head width": _width(state, "mlp_0.0.weight")}
    if "model.0.weight" in state:
        convolutions = sum(tensor.ndim == 4 and not key.endswith(".filt") for key, tensor in state.items())
        return {
            "--netD": f"PatchGAN of {convolutions - 2} strided layers",
            "--ndf": _width(state, "model.0.weight"),
            "--no_antialias": str(not any(key.endswith(".filt") for key in state)).lower(),
        }
    return {}


def generator_options(state: State) -> dict[str, Any]:
    """Option → value of the generator that a state dict belongs to; empty if it is none of ours.

    What leaves no trace in keys and shapes is left out: ``residual``, and a U-Net's dropout.
    """
    if "stem.weight" in state:
        return dict(_describe_resunet(state))
    if any(".conv_block." in key for key in state):
        found = {flag.removeprefix("--"): value for flag, value in _describe_resnet(state).items()}
        convolutions = [key for key, tensor in state.items() if tensor.ndim == 4 and not key.endswith(".filt")]
        found["output_nc"] = str(state[convolutions[-1]].shape[0])
        return {**found, "normG": "batch" if found["normG"] == "batch" else "instance"}
    if "model.model.0.weight" in state and "model.model.3.weight" in state:
        first, last = state["model.model.0.weight"], state["model.model.3.weight"]
        normed = state.get("model.model.1.model.2.weight")
        return {
            "netG": f"unet_{2 ** _unet_levels(state)}",
            "ngf": str(first.shape[0]),
            "input_nc": str(first.shape[1]),
            "output_nc": str(last.shape[1]),
            "normG": "batch" if normed is not None and normed.ndim == 1 else "instance",
        }
    return {}


def _describe_resnet(state: State) -> dict[str, str]:
    blocks = {int(match[1]) for key in state if (match := re.match(r"model\.(\d+)\.conv_block", key))}
    blurs = {int(match[1]) for key in state if (match := re.match(r"model\.(\d+)\.filt", key))}
    # Dropout moves the block's second convolution from position 5 to 6.
    second_convolution = state.get(f"model.{min(blocks)}.conv_block.6.weight")
    dropout = second_convolution is not None and second_convolution.ndim == 4
    first = state.get("model.1.weight")
    return {
        "--netG": f"resnet_{len(blocks)}blocks",
        "--ngf": _width(state, "model.1.weight"),
        "--input_nc": "?" if first is None else str(first.shape[1]),
        "--normG": "batch" if "model.2.weight" in state else "instance or none",
        "--no_dropout": str(not dropout).lower(),
        "--no_antialias": str(not any(position < min(blocks) for position in blurs)).lower(),
        "--no_antialias_up": str(not any(position > max(blocks) for position in blurs)).lower(),
    }


def _describe_resunet(state: State) -> dict[str, str]:
    """Without batch norm it is taken to have none, as is this network's use."""
    return {
        "netG": "resunet_histogram" if "modulation.hidden.weight" in state else "resunet",
        "ngf": _width(state, "stem.weight"),
        "input_nc": str(state["stem.weight"].shape[1] // FOLD**2),
        "output_nc": _width(state, "last.weight"),
        "normG": "batch" if "encode1.body.1.weight" in state else "none",
    }


def _unet_levels(state: State) -> int:
    """Each level inside another adds the number of a layer in front of a ``model``."""
    return 1 + max(len(re.findall(r"\.\d+(?=\.model\.)", key)) for key in state)


def _width(state: State, key: str) -> str:
    """Output channels of a layer."""
    return str(state[key].shape[0]) if key in state else "?"
