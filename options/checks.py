"""Options that are valid one by one but not together. Models check their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.transforms import CROPS_AFTER_RESIZING
from options.flags import Program
from util.errors import UserError


def check_together(values: Mapping[str, Any], program: Program) -> None:
    """Raise :class:`UserError` for the first contradiction."""
    preprocess, load_size, crop_size = values["preprocess"], values["load_size"], values["crop_size"]
    if preprocess in CROPS_AFTER_RESIZING and crop_size > load_size:
        raise UserError(
            f"--crop_size {crop_size} is larger than --load_size {load_size}, to which --preprocess {preprocess} "
            f"resizes first; use a smaller crop or a larger load size."
        )
    if values.get("output") and not values.get("input"):
        raise UserError("--output goes with --input; the results of a data set go to --results_dir.")
    if not values["dataroot"] and not values.get("input"):
        folders = "trainA and trainB" if program.trains else "testA"
        instead = "" if program.trains else ", or --input with pictures to derain"
        raise UserError(f"--dataroot is missing; give the folder that contains {folders}{instead}.")
    if not program.trains:
        return
    if values["n_epochs"] + values["n_epochs_decay"] < 1:
        raise UserError("--n_epochs and --n_epochs_decay are both 0, which trains nothing; raise one.")
    if values["gan_mode"] == "wgangp" and values["normD"] == "batch":
        raise UserError(
            "--gan_mode wgangp penalizes the gradient of each image, which --normD batch mixes with the other "
            "images'; use --normD instance or none."
        )
