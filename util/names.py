"""What a user's word for a model or for results means, the same for every command.

A model is a network's file, a run's folder, a run's name in ``--checkpoints_dir``, or the name of a model that ships
with the project (``derain``, also called ``general``, and ``cclgan``); looked for in this order. Results are a folder
that ``test.py`` wrote, or those of a model.
"""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath, PureWindowsPath

from util.errors import UserError
from util.files import real_path
from util.text import did_you_mean

logger = logging.getLogger(__name__)

OPTIONS_FILE = "options.yaml"
MANIFEST_NAME = "manifest.json"  # of a test's results
LATEST_TEST = "test_latest"

PRETRAINED = Path(__file__).resolve().parents[1] / "models" / "pretrained"
ALIASES = {"general": "derain"}
"""Other names of models that ship."""
SHIPPED = PRETRAINED / "derain"
"""The model that comes with the project: what ``--input`` uses where neither --checkpoint nor --name is given."""


def check_name(name: str, flag: str = "--name") -> None:
    """Refuse names that do not lead to a folder below ``--checkpoints_dir``, on any system.

    ``rain/first`` is fine, a folder in a folder.

    Raises:
        UserError: empty, absolute, with ``..`` or with control characters.
    """
    if not name.strip() or not PurePosixPath(name).parts:
        raise UserError(f"{flag} is empty; give the run a name.")
    windows = PureWindowsPath(name)
    only_dots = any(not part.strip(" .") for part in windows.parts)
    leaves = name.startswith("/") or bool(windows.anchor) or only_dots
    if leaves or not name.isprintable():
        raise UserError(f"{flag} {name!a}: would not be a folder inside --checkpoints_dir; use a plain name.")


def find_weights(text: str, checkpoints_dir: Path, flag: str = "--checkpoint") -> Path:
    """The network's file, or the folder of networks, that ``flag`` means; see the module.

    A folder counts as a run if it holds options or networks, so that a run's name is the run's even where the working
    directory has a folder of that name.

    Raises:
        UserError: there is nothing of that name.
    """
    place = Path(text).expanduser()
    if place.is_file() or _is_run(place):
        return place
    check_name(text, flag)
    for folder in (checkpoints_dir / text, PRETRAINED / ALIASES.get(text, text)):
        if folder.is_dir():
            return folder
    if place.is_dir():
        raise UserError(f"{flag} {text}: this folder holds neither {OPTIONS_FILE} nor networks (*_net_*.pth).")
    hint = did_you_mean(text, [*folders_in(checkpoints_dir), *folders_in(PRETRAINED), *ALIASES])
    raise UserError(
        f"{flag} {text}: there is neither such a file nor such a run in {checkpoints_dir}{hint}; give a run's "
        "name or folder, a network's file (.pth), or 'derain', the model that ships."
    )


def find_results(word: str | Path, results_dir: Path = Path("results")) -> Path:
    """The folder of results that ``word`` means: that folder, its page, or the folder above it; else those of a model.

    Of several tests of a run the last one of its latest networks is taken, which a logged line says.

    Raises:
        UserError: there are none, or of several tests none is of the latest networks.
    """
    place = Path(word).expanduser()
    if place.is_file() and (place.parent / MANIFEST_NAME).is_file():
        return place.parent
    if place.is_file() or _is_run(place):
        place = results_dir / results_name(place)
    elif not place.is_dir():
        place = results_dir / word
        if not place.is_dir() and str(word) in ALIASES:
            place = results_dir / ALIASES[str(word)]
    if (place / MANIFEST_NAME).is_file():
        return place
    if not place.is_dir():
        hint = did_you_mean(str(word), folders_in(results_dir))
        raise UserError(
            f"{word}: there is no such folder, and no results of that name in {results_dir}{hint}; run test.py first."
        )
    tests = sorted(file.parent for file in place.glob(f"*/{MANIFEST_NAME}"))
    latest = place / LATEST_TEST
    if len(tests) > 1 and latest in tests:
        logger.info("%s holds %d tests; %s is taken", place, len(tests), LATEST_TEST)
        return latest
    if len(tests) > 1:
        raise UserError(f"{place}: holds the results of several tests; name one of {', '.join(map(str, tests))}.")
    return tests[0] if tests else place


def results_name(weights: Path) -> str:
    """What results of these weights are filed under: the run's name, or for a file without a run its own."""
    if weights.is_dir():
        return real_path(weights).name
    if not (weights.parent / OPTIONS_FILE).is_file():
        return weights.stem
    return real_path(weights).parent.name


def folders_in(place: Path) -> list[str]:
    """The names of the folders in a folder; none where there is no such place."""
    return [entry.name for entry in place.iterdir() if entry.is_dir()] if place.is_dir() else []


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and ((folder / OPTIONS_FILE).is_file() or any(folder.glob("*_net_*.pth")))
