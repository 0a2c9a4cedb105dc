"""The images of one domain, for training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from data.loader import DatasetSettings
from data.reading import ImageFile, check_readable, read_first, read_image
from data.transforms import Pixels, Placement

logger = logging.getLogger(__name__)


class Domain:
    """The checked images of one domain, and how to load one of them for training."""

    def __init__(self, images: Sequence[ImageFile], label: str, settings: DatasetSettings, *, side: int) -> None:
        """Look at every file's header; ``label`` names the domain in the log, ``side`` is 0 (source) or 1 (target).

        Raises:
            UserError: an image is unreadable, too small, or (in batches) of another size than the rest.
        """
        checked = check_readable([(image,) for image in images], skip_bad=settings.skip_bad)
        self.images = [image for (image,) in checked.units]
        settings.transform.check(self.images, checked.sizes, batch_size=settings.batch_size)
        self._settings, self._channels = settings, settings.channels[side]
        self._cache = None
        if settings.cache_room is not None:
            sizes = [settings.transform.resized(image.size(checked.sizes[image.path])) for image in self.images]
            self._cache = settings.cache_room.take([(height, width, self._channels) for width, height in sizes])
        logger.info("%s: %d images", label, len(self.images))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def load(self, index: int, placement: Placement) -> tuple[torch.Tensor, str, list[str]]:
        """Image number ``index``: float32 [C, H, W] in [-1, 1], its path, and notes about files passed over."""

        def read(candidate: int) -> tuple[torch.Tensor, str]:
            tensor = self._settings.transform.place(self._prepared(candidate), placement)
            return tensor, str(self.images[candidate].path)

        (tensor, path), notes = read_first(len(self.images), index, read, skip_bad=self._settings.skip_bad)
        return tensor, path, notes

    def _prepared(self, index: int) -> Pixels:
        """Image number ``index`` before anything random is done to it: out of the cache, or decoded and kept there."""
        kept = None if self._cache is None else self._cache.get(index)
        if kept is not None:
            return kept
        path = self.images[index].path
        pixels = self._settings.transform.prepare(read_image(path, self._channels), self._channels, what=f"'{path}'")
        if self._cache is not None:
            self._cache.put(index, pixels)
        return pixels
