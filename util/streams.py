"""The image streams that a model trains on: what a batch holds, and what a data set has to find for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Stream:
    """One stream of images that a model trains on.

    Its images lie in the folder ``<phase><name>`` under ``--dataroot``. In a batch they are the tensor
    ``batch[name]`` [N, C, H, W] in [-1, 1], and ``batch[f"{name}_paths"]`` lists their files.

    Attributes:
        name: the key in a batch and the end of the folder's name: ``"A"``, ``"B"``, ``"U"`` …
        paired_with: another stream that shows the same scenes under the same file names: both are drawn together,
            with the same crop and the same flip.
        channels: the option that says how many channels the images have.
        generated: the data set makes the images (rain drawn on another stream); there is no folder for them.
    """

    name: str
    paired_with: str | None = None
    channels: str = "input_nc"
    generated: bool = False


UNPAIRED = (Stream("A"), Stream("B", channels="output_nc"))
"""Source and target without correspondence: the streams of unsupervised image translation."""


def source(streams: Sequence[Stream]) -> Stream:
    """The stream that a trained model maps from: the first."""
    return streams[0]


def target(streams: Sequence[Stream]) -> Stream | None:
    """The stream that it maps to: the second, or None where there is one stream alone."""
    return streams[1] if len(streams) > 1 else None


def groups(streams: Iterable[Stream]) -> list[list[Stream]]:
    """The streams that are drawn together: each with those that are paired with it, directly or through another.

    Raises:
        ValueError: a name twice, or a stream paired with one that is not declared before it.
    """
    members: dict[str, list[Stream]] = {}
    found: list[list[Stream]] = []
    for stream in streams:
        if stream.name in members or (stream.paired_with is not None and stream.paired_with not in members):
            raise ValueError(f"stream {stream.name!r} is declared twice, or before the stream it is paired with")
        if stream.paired_with is None:
            found.append([])
        members[stream.name] = found[-1] if stream.paired_with is None else members[stream.paired_with]
        members[stream.name].append(stream)
    return found


def batch_images(batch: Mapping[str, Any]) -> int:
    """How many images of each stream a batch holds, told by its first stream."""
    return next(len(value) for value in batch.values() if isinstance(value, Tensor))
