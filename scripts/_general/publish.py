"""From a run to the model that ships: one generator in half precision, its options, and what was measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from options.flags import GENERATOR_OPTIONS
from options.runs import read_options
from util.engine.checkpoint import LATEST
from util.engine.weights import load_file, net_file, save_atomically
from util.errors import UserError
from util.files import write_text_atomically
from util.names import OPTIONS_FILE

CARD = "card.json"
GENERATOR = "G_A"
KEPT_OPTIONS = ("model", "direction", *GENERATOR_OPTIONS)
"""What test.py needs to know of the training; everything else is in the recipe."""


def publish(run: Path, tags: Sequence[str], folder: Path) -> dict[str, Any]:
    """Write the mean of generators ``tags`` of ``run`` to ``folder`` in half precision, with its options.

    Returns:
        The file's name, hash and size, and whose mean it is.

    Raises:
        UserError: the run has no such checkpoint, or a file cannot be written.
    """
    sources = [net_file(run, tag, GENERATOR) for tag in tags]
    for source in sources:
        if not source.is_file():
            raise UserError(f"{source} is missing; was the run trained to its end?")
    mean = _mean([load_file(source) for source in sources])
    halved = {key: value.half() if value.dtype == torch.float32 else value for key, value in mean.items()}
    folder.mkdir(parents=True, exist_ok=True)
    target = net_file(folder, LATEST, GENERATOR)
    save_atomically(halved, target)
    options = read_options(run / OPTIONS_FILE)
    kept = {name: options[name] for name in KEPT_OPTIONS if name in options}
    write_text_atomically(folder / OPTIONS_FILE, yaml.safe_dump(kept, sort_keys=False))
    content = target.read_bytes()
    return {
        "file": target.name,
        "mean_of": list(tags),
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": sum(value.numel() for value in halved.values()),
    }


def _mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Of equal networks, weight by weight, computed in float64."""
    return {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(value.dtype)
        for key, value in states[0].items()
    }


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Put what is known about the model beside it, for the docs and the demo."""
    write_text_atomically(folder / CARD, json.dumps(facts, indent=1) + "\n")
