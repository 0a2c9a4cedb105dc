"""What architecture a state dict belongs to, in terms of the flags, to explain why it does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]


def describe_state(state: State) -> dict[str, str]:
    """Flag → value, as far as keys and shapes tell; empty for an unknown layout."""
    if any(".conv_block." in key for key in state):
        return _describe_resnet(state)
    if "model.model.0.weight" in state:
        levels = 1 + max(key.count("model.1.model") + key.count("model.3.model") for key in state)
        return {"--netG": f"U-Net of {levels} levels", "--ngf": _width(state, "model.model.0.weight")}
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


def _width(state: State, key: str) -> str:
    """Output channels of a layer."""
    return str(state[key].shape[0]) if key in state else "?"
