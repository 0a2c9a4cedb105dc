"""The image streams that a model trains on: what a batch holds, and what a data set has to find for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


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


PAIRED = (Stream("A"), Stream("B", paired_with="A", channels="output_nc"))
"""Degraded images and their originals: the streams of supervised restoration."""


def source(streams: Sequence[Stream]) -> Stream:
    """The stream that a trained model maps from: the first."""
    return streams[0]


def target(streams: Sequence[Stream]) -> Stream | None:
    """The stream that it maps to: the second, or None where there is one stream alone."""
    return streams[1] if len(streams) > 1 else None


def groups(streams: Iterable[Stream]) -> list[list[Stream]]:
    """The streams that are drawn together: each with those that are paired with it, directly or through another.

    Raises:
        ValueError: a name twice, or a stream paired with one that there is not.
    """
    every = list(streams)
    found = {stream.name: [stream] for stream in every}
    if len(found) < len(every) or not {stream.paired_with for stream in every} <= {None, *found}:
        names = ", ".join(stream.name for stream in every)
        raise ValueError(f"streams {names}: a name twice, or one is paired with a stream that is not there")
    for stream in every:
        if stream.paired_with is not None and found[stream.paired_with] is not found[stream.name]:
            merged = sorted(found[stream.name] + found[stream.paired_with], key=every.index)
            found.update({member.name: merged for member in merged})
    return list({id(members): members for members in (found[stream.name] for stream in every)}.values())


def folder_ends(streams: Iterable[Stream], direction: str) -> tuple[str, ...]:
    """What follows the phase in the names of the streams' folders; under ``BtoA`` that of A is B and that of B is A."""
    swapped = {"A": "B", "B": "A"} if direction == "BtoA" else {}
    return tuple(swapped.get(stream.name, stream.name) for stream in streams)


def source_and_target(streams: Sequence[Stream], direction: str) -> tuple[str, str]:
    """The same of source and target in a test; a model of one stream may have ground truth in the other of A and B."""
    first, *others = folder_ends(streams, direction)
    return first, others[0] if others else ("A" if first == "B" else "B")
