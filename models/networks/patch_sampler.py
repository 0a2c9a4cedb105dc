"""Projection heads on features at sampled locations (CUT's ``netF``, CCLGAN's F and P)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.networks.generator import State, width_of

_NORM_EPSILON = 1e-7


class PatchSampler(nn.Module):
    """Takes feature vectors at random locations of each layer and projects them to unit length.

    Submodules are called ``mlp_0``, ``mlp_1``, …, one per layer, as in CUT's checkpoints.

    Args:
        widths: channels of each feature map that will be passed in.
        mlp: project with a two-layer perceptron (``mlp_sample``); otherwise only normalize (``sample``).
        embedding: width of the perceptron.
        normalize: divide each embedding by its L2 norm.
    """

    def __init__(
        self, widths: Sequence[int], *, mlp: bool = True, embedding: int = 256, normalize: bool = True
    ) -> None:
        super().__init__()
        self.mlp = mlp
        self.normalize = normalize
        for layer, width in enumerate(widths if mlp else ()):
            head = nn.Sequential(nn.Linear(width, embedding), nn.ReLU(), nn.Linear(embedding, embedding))
            self.add_module(f"mlp_{layer}", head)

    def forward(self, features: Sequence[Tensor], locations: Sequence[Tensor]) -> list[Tensor]:
        """Embeddings [N, P_l, E] of each layer at ``locations`` (see :func:`sample_locations`).

        Args:
            features: one [N, C_l, H_l, W_l] per layer.
            locations: one vector of P_l indices into the flattened H_l · W_l positions per layer, shared
                by the images of the batch.
        """
        embeddings = []
        for layer, (feature, index) in enumerate(zip(features, locations, strict=True)):
            vectors = _vectors(feature, index)
            if self.mlp:
                vectors = self.get_submodule(f"mlp_{layer}")(vectors)
            if self.normalize:
                vectors = vectors / (vectors.norm(dim=2, keepdim=True) + _NORM_EPSILON)
            embeddings.append(vectors)
        return embeddings

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Number and width of the heads that ``state`` belongs to; None if it is another network's."""
        if "mlp_0.0.weight" not in state:
            return None
        heads = {key.split(".")[0] for key in state}
        return {"projected layers": str(len(heads)), "head width": width_of(state, "mlp_0.0.weight")}


def _vectors(feature: Tensor, index: Tensor) -> Tensor:
    """[N, C, H, W] at ``index`` of its H · W positions → [N, P, C], without copying what is not taken."""
    if feature.is_contiguous(memory_format=torch.channels_last):
        return feature.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, index)
    return feature.flatten(2)[:, :, index].transpose(1, 2)


def common_region(images: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Cut each layer's features of several images to the height and width that all of them have."""
    cut = []
    for layer in zip(*images, strict=True):
        height, width = min(f.shape[2] for f in layer), min(f.shape[3] for f in layer)
        cut.append([feature[:, :, :height, :width] for feature in layer])
    return [list(features) for features in zip(*cut, strict=True)]


def sample_locations(features: Sequence[Tensor], count: int) -> list[Tensor]:
    """For each layer, ``count`` different positions of its H · W (all of them if there are fewer), at random."""
    locations = []
    for feature in features:
        positions = feature.shape[2] * feature.shape[3]
        locations.append(torch.randperm(positions, device=feature.device)[:count])
    return locations
