"""What ``--input`` names, and where each result goes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.files import ImageFile, check_readable, find_images, require_images
from util.errors import UserError
from util.files import real_path, safe_child
from util.finding import IMAGE_SUFFIXES
from util.pictures import Size
from util.text import did_you_mean

VIDEO_EXTENSIONS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
FILESYSTEM_ROOT_NAME = "files"
NO_SIZE: Size = (0, 0)


@dataclass(frozen=True)
class Inputs:
    """Files to derain: the images of a folder, one image, or one video.

    ``path`` is what the user named. The files' names are relative to it, or to its folder if it is a file.
    ``sizes`` holds each image's width and height; a video is not looked into beforehand.
    """

    path: Path
    files: tuple[ImageFile, ...]
    sizes: Mapping[Path, Size] = field(default_factory=dict)
    is_video: bool = False


@dataclass(frozen=True)
class Job:
    """One file to derain: its ``name`` (relative, with ``/``), where it is and where its result goes.

    ``size`` is width and height in pixels, (0, 0) for a video.
    """

    name: str
    source: Path
    target: Path
    size: Size = NO_SIZE


def input_name(path: Path) -> str:
    """What the results of an input are filed under: the folder's name, or the file's without extension."""
    whole = real_path(path)
    is_folder = os.path.isdir(whole)  # noqa: PTH112 (pathlib stumbles over a link to a name that is too long)
    return (whole.name if is_folder else whole.stem) or FILESYSTEM_ROOT_NAME


def find_inputs(path: Path, *, not_below: Path, skip_bad: bool = False) -> Inputs:
    """The images below a folder, except those below ``not_below``, or the one image or video that ``path`` is.

    The header of every image is looked at, so that what is no image at all shows before any work is done; with
    ``skip_bad`` it is left out with a logged warning.

    Raises:
        UserError: nothing is there, nothing of these kinds, or without ``skip_bad`` something that is no image.
    """
    if path.is_dir():
        results = real_path(not_below)
        outside = real_path(path) != results and not real_path(path).is_relative_to(results)
        found = [file for file in find_images(path) if not (outside and real_path(file.path).is_relative_to(results))]
        return _looked_at(path, require_images(path, found), skip_bad=skip_bad)
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"--input {path}: there is no such file or folder{did_you_mean(path.name, siblings)}.")
    kind = path.suffix.lower()
    if kind not in IMAGE_SUFFIXES | VIDEO_EXTENSIONS:
        images, videos = (", ".join(sorted(e[1:] for e in kinds)) for kinds in (IMAGE_SUFFIXES, VIDEO_EXTENSIONS))
        raise UserError(f"--input {path}: is neither an image ({images}) nor a video ({videos}), judged by its name.")
    file = ImageFile(path, path.name)
    return Inputs(path, (file,), is_video=True) if kind in VIDEO_EXTENSIONS else _looked_at(path, [file])


def _looked_at(path: Path, files: Sequence[ImageFile], *, skip_bad: bool = False) -> Inputs:
    checked = check_readable([(file,) for file in files], skip_bad=skip_bad)
    return Inputs(path, tuple(unit[0] for unit in checked.units), checked.sizes)


def give_places(inputs: Inputs, output: Path) -> list[Job]:
    """Where the result of each input goes: below the folder ``output`` under its own name.

    For a single file ``output`` may also name the result, by an extension of the same kind.

    Raises:
        UserError: a result would replace an input, or lie outside of ``output``.
    """
    if not inputs.path.is_dir() and _names_a_file(output, inputs.path):
        (file,) = inputs.files
        jobs = [Job(file.name, file.path, output, inputs.sizes.get(file.path, NO_SIZE))]
    else:
        if output.exists() and not output.is_dir():
            raise UserError(f"--output {output}: is a file, but the results need a folder; choose another name.")
        jobs = [
            Job(file.name, file.path, safe_child(output, file.name), inputs.sizes.get(file.path, NO_SIZE))
            for file in inputs.files
        ]
    _refuse_to_overwrite(jobs)
    return jobs


def _names_a_file(output: Path, source: Path) -> bool:
    kinds = VIDEO_EXTENSIONS if source.suffix.lower() in VIDEO_EXTENSIONS else IMAGE_SUFFIXES
    return not output.is_dir() and output.suffix.lower() in kinds


def _refuse_to_overwrite(jobs: Sequence[Job]) -> None:
    sources = {real_path(job.source) for job in jobs}
    for job in jobs:
        if real_path(job.target) in sources or (job.target.exists() and job.target.samefile(job.source)):
            raise UserError(f"--output: the result of '{job.source}' would replace an input; choose another folder.")
