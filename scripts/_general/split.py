"""Which photographs are for training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.files import ImageFile, find_images, require_images
from util.errors import UserError

_LISTS = ("test", "val", "left_out")


@dataclass(frozen=True)
class Split:
    """Photographs by what they are for; no photograph is in two of them."""

    train: Sequence[ImageFile]
    val: Sequence[ImageFile]
    test: Sequence[ImageFile]


def split_photos(photos: Path, list_file: Path) -> Split:
    """Share out all images below ``photos`` as ``list_file`` says; what it does not name is for training.

    Raises:
        UserError: the file is no such list, names a photograph twice or one that is missing, or none is left to train.
    """
    lists = _read(list_file)
    by_name = {file.name: file for file in require_images(photos, find_images(photos))}
    named = [name for each in _LISTS for name in lists[each]]
    if missing := sorted(set(named) - by_name.keys()):
        raise UserError(
            f"--photos {photos}: {len(missing)} photographs that {list_file} names are missing, such as {missing[0]}; "
            "add them, or give a list of your own by --split."
        )
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise UserError(f"--split {list_file}: names {twice} twice; leave it in one list.")
    train = [file for name, file in by_name.items() if name not in set(named)]
    if len(train) < len(("A", "B")):
        raise UserError(f"--split {list_file}: leaves fewer than 2 photographs in {photos} to train on; shorten it.")
    return Split(train, [by_name[name] for name in lists["val"]], [by_name[name] for name in lists["test"]])


def _read(path: Path) -> dict[str, list[str]]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"--split {path}: cannot be read as YAML ({type(error).__name__}); correct it.") from error
    shaped = isinstance(content, dict) and content.keys() == set(_LISTS)
    if not shaped or not all(_is_list_of_names(names) for names in content.values()):
        raise UserError(f"--split {path}: must hold the lists {', '.join(_LISTS)} of file names; correct it.")
    return content


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
