"""Which clean images show the same picture, where numbers do not tell: by comparing small copies of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data.published.archives import DamagedSource, Source
from data.published.members import Found, Pair, Picture
from util.pictures.decoding import formats

THUMBNAIL = 8
"""Pixels along each side of the small copies."""

SAME = 3.0
"""Mean difference of gray levels (of 255) up to which two small copies are the same picture. A row and a column of
pixels cut off, as between releases of Rain100H, changed 300 photographs by at most 1.5; different crops of 481×321 from
129 photographs differed by at least 7."""


def cut(image: Image.Image, picture: Picture) -> Image.Image:
    """The part of the file's ``image`` that is ``picture``."""
    half = image.width // 2
    boxes = {"left": (0, 0, half, image.height), "right": (image.width - half, 0, image.width, image.height)}
    return image.crop(boxes[picture.half]) if picture.half in boxes else image


def decode(data: bytes, picture: Picture) -> Image.Image:
    """Decode one image.

    Raises:
        DamagedSource: names the file when it is no image or a broken one.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=formats())
        image.load()
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise DamagedSource(
            f"'{picture.member}' cannot be read as an image ({str(error) or type(error).__name__}); "
            "the source is damaged, get it again."
        ) from error
    return cut(image, picture)


def _thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """float32 [THUMBNAIL²], gray levels in [0, 255]."""
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def _thumbnails(pictures: Iterable[Picture], sources: Sequence[Source]) -> dict[Picture, NDArray[np.float32]]:
    by_source: dict[int, dict[str, list[Picture]]] = {}
    for picture in pictures:
        by_source.setdefault(picture.member.source, {}).setdefault(picture.member.name, []).append(picture)
    result: dict[Picture, NDArray[np.float32]] = {}
    total = sum(len(names) for names in by_source.values())
    with tqdm(total=total, desc="comparing clean images", unit="file", disable=None, leave=False) as progress:
        for position, wanted in by_source.items():
            for name, reader in sources[position].read(wanted):
                data = reader.read()
                result.update({picture: _thumbnail(decode(data, picture)) for picture in wanted[name]})
                progress.update()
    return result


def group_by_content(found: Found, sources: Sequence[Source]) -> Found:
    """``found`` with equal ``scene`` and ``content`` for pairs of the same picture, and no test picture in training.

    Training pairs whose clean image is that of a test pair are left out, which is stated in ``notes``.

    Raises:
        DamagedSource: a clean image cannot be read.
    """
    test = sorted(found.test, key=lambda pair: pair.name)
    train = sorted(found.train, key=lambda pair: pair.name)
    thumbnails = _thumbnails({pair.clean: None for pair in (*test, *train)}, sources)
    leaders: list[Pair] = []
    known = np.empty((len(test) + len(train), THUMBNAIL * THUMBNAIL), dtype=np.float32)
    kept: list[Pair] = []
    left_out = 0
    for number, pair in enumerate((*test, *train)):
        thumbnail = thumbnails[pair.clean]
        distances = np.abs(known[: len(leaders)] - thumbnail).mean(axis=1)
        same = np.flatnonzero(distances <= SAME)
        if not same.size:
            known[len(leaders)] = thumbnail
            leaders.append(pair)
        leader = leaders[same[0]] if same.size else pair
        if number < len(test):
            continue
        if any(leader is pair for pair in test):
            left_out += 1
        else:
            kept.append(replace(pair, scene=leader.scene, content=leader.content))
    notes = list(found.notes)
    if left_out:
        notes.append(
            f"{left_out} of {len(train)} training pairs left out, because their clean image is in the test set"
        )
    return Found(kept, test, found.problems, notes)
