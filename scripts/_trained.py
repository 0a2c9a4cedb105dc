"""A trained model by the flags that test.py finds it with: --checkpoint or --name, --epoch, and what the run left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models import create_model
from models.base_model import Model
from models.networks import describe_state
from options import Options, parse_test
from options.runs import weights_of
from util.engine.weights import load_weights, published_file

NO_PICTURES = "none"
"""Stands for pictures where test.py's command line needs some; nothing is read."""

FLAGS_HELP = """which model, as for test.py:
  --checkpoint CHECKPOINT  a run's name or folder, or a network's file (.pth); not set: the model that ships
  --name NAME              or a run by its name in --checkpoints_dir (./checkpoints)
  --epoch EPOCH            of the run: an epoch's number, best_psnr, ... (latest)
  and all that test.py takes besides, such as --netG for a file that does not tell its architecture"""


@dataclass(frozen=True)
class Trained:
    """A model with its weights, on the CPU; ``opt`` says how it is built."""

    opt: Options
    model: Model

    @property
    def file(self) -> Path:
        """The (first) network's file."""
        weights = weights_of(self.opt)
        return weights if weights.is_file() else published_file(weights, self.opt.epoch, next(iter(self.model.nets)))


def load_trained(flags: Sequence[str]) -> Trained:
    """The model that test.py would use with these flags.

    Raises:
        UserError: a flag is not valid, or there are no such weights.
    """
    opt = parse_test([*flags, "--input", NO_PICTURES])
    model = create_model(opt, training=False)
    load_weights(model.nets, weights_of(opt), opt.epoch, describe_state)
    return Trained(opt, model)
