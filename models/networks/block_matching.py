"""Non-local sampling: places of an image whose surroundings look like those of one random place (NLCL)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 16  # pixels a side; a location is the pixel right below the middle of its patch
WINDOW = 40  # pixels a side of the window in which similar patches are looked for
BORDER = 16  # pixels from the border that an anchor keeps
SMALLEST_SIDE = 2 * BORDER


@torch.no_grad()
def nearest_patches(image: Tensor, count: int, anchor: tuple[int, int] | None = None) -> Tensor:
    """Locations (row, column) [K, 2] of the ``count`` patches of ``image`` [C, H, W] nearest to one, from near to far.

    Nearest in squared Euclidean distance, the one itself included, among all patches in the window around it that lie
    in the image; these are 256 at least.

    Args:
        anchor: location of that one; by default random.

    Raises:
        ValueError: an image smaller than :data:`SMALLEST_SIDE`, or a count above 256.
    """
    height, width = image.shape[1:]
    if min(height, width) < SMALLEST_SIDE or count > (SMALLEST_SIDE - PATCH) ** 2:
        raise ValueError(f"cannot find {count} patches in {height}×{width} pixels")
    row, column = anchor or (
        int(torch.randint(BORDER, height - BORDER + 1, ())),
        int(torch.randint(BORDER, width - BORDER + 1, ())),
    )
    (top, rows), (left, columns) = _candidates(row, height), _candidates(column, width)
    half = PATCH // 2
    window = image[:, top - half : top + rows - 1 + half, left - half : left + columns - 1 + half]
    own = image[:, row - half : row + half, column - half : column + half].reshape(1, -1, 1)
    distances = (F.unfold(window[None].float(), PATCH) - own.float()).square().sum(1)[0]
    nearest = distances.sort(stable=True).indices[:count]
    return torch.stack([top + nearest // columns, left + nearest % columns], 1)


def at_level(locations: Tensor, image_size: tuple[int, int], level_size: tuple[int, int]) -> Tensor:
    """Locations [K, 2] in an image, as indices [K] into the flattened positions of a smaller feature map."""
    rows, columns = (locations[:, axis] * level_size[axis] // image_size[axis] for axis in (0, 1))
    return rows * level_size[1] + columns


def _candidates(place: int, size: int) -> tuple[int, int]:
    """First location along one axis, and how many there are."""
    first = max(PATCH // 2, place - WINDOW // 2)
    last = min(size - PATCH // 2, place + WINDOW // 2 - 1)
    return first, last - first + 1
