"""``--checkpoint``: a run by its name or folder, or a single network's file, and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from models.networks.describe import describe_state, generator_options
from options.files import OptionsFile, read_options
from options.naming import check_name
from util.engine.checkpoint import load_file, without_wrapper
from util.engine.run_folder import OPTIONS_FILE
from util.errors import UserError
from util.files import real_path
from util.suggest import did_you_mean

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "pretrained" / "general"
"""The model that comes with the project: what ``--input`` uses where neither --checkpoint nor --name is given."""

SINGLE_GENERATOR = "cut"
"""The model that is nothing but one generator: how a network's file without options is run."""


def find_weights(text: str, checkpoints_dir: Path) -> Path:
    """The file or folder that ``--checkpoint`` means: as a path, or else as a run's name in ``checkpoints_dir``.

    A folder counts as a run if it holds options or networks, so that a run's name beside a folder of the same name
    in the working directory is the run's.

    Raises:
        UserError: there is neither.
    """
    place = Path(text).expanduser()
    if place.is_file() or (place.is_dir() and _is_run(place)):
        return place
    check_name(text, "--checkpoint")
    if (checkpoints_dir / text).is_dir():
        return checkpoints_dir / text
    if place.is_dir():
        raise UserError(f"--checkpoint {text}: this folder holds neither {OPTIONS_FILE} nor networks (*_net_*.pth).")
    hint = did_you_mean(text, _runs(checkpoints_dir))
    raise UserError(
        f"--checkpoint {text}: there is neither such a file nor such a run in {checkpoints_dir}{hint}; give a run's "
        "name or folder, or a network's file (.pth)."
    )


def options_beside(weights: Path) -> OptionsFile | None:
    """The options of a run's folder or of a network's file.

    A file without a run's options beside it tells its generator's architecture itself.

    Raises:
        UserError: the file cannot be read, or holds another network than a generator.
    """
    beside = (weights.parent if weights.is_file() else weights) / OPTIONS_FILE
    told = _generator_in(weights) if weights.is_file() else {}
    if beside.is_file():
        return OptionsFile(beside, read_options(beside))
    return OptionsFile(weights, {"model": SINGLE_GENERATOR, **told}) if weights.is_file() else None


def _generator_in(file: Path) -> dict[str, Any]:
    """What a file tells of its generator; nothing if it is of an unknown kind."""
    stored = load_file(file)
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise UserError(
            f"--checkpoint {file}: is not a single network's file; give one like latest_net_G.pth or "
            "latest_net_G_A.pth, or the run's folder."
        )
    state = without_wrapper(stored)
    told = generator_options(state)
    if not told and describe_state(state):
        raise UserError(
            f"--checkpoint {file}: holds no generator but another network; give the file of the generator, such as "
            "latest_net_G.pth or latest_net_G_A.pth."
        )
    return told


def results_name(weights: Path) -> str:
    """What results of these weights are filed under: the run's name, or for a file without a run its own."""
    if weights.is_dir():
        return real_path(weights).name
    if not (weights.parent / OPTIONS_FILE).is_file():
        return weights.stem
    return real_path(weights).parent.name


def missing_weights() -> UserError:
    """What to say where nobody said which weights to use."""
    return UserError(
        "--checkpoint is missing; give the run that takes the rain out (its name in --checkpoints_dir or its folder), "
        "or a network's file (.pth)."
    )


def _is_run(folder: Path) -> bool:
    return (folder / OPTIONS_FILE).is_file() or any(folder.glob("*_net_*.pth"))


def _runs(checkpoints_dir: Path) -> list[str]:
    return [entry.name for entry in checkpoints_dir.iterdir() if entry.is_dir()] if checkpoints_dir.is_dir() else []
