"""φ: what it sees, that it stays frozen, and where its weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.networks import semantic
from models.networks.semantic import SemanticEncoder, create_semantic_encoder
from util.errors import UserError

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1},
}


@pytest.fixture
def tiny_clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small random CLIP known to open_clip as 'tiny', and its weights file."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", TINY_CLIP)
    torch.manual_seed(0)
    path = tmp_path / "tiny.pt"
    torch.save(open_clip.create_model("tiny", pretrained=None).state_dict(), path)
    return path


def photo(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(4)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_clip_loads_from_a_local_file_and_gives_open_clips_embedding(tiny_clip: Path) -> None:
    phi = create_semantic_encoder("clip", clip_model="tiny", clip_pretrained=str(tiny_clip))
    model, _, transform = open_clip.create_model_and_transforms("tiny", pretrained=str(tiny_clip))
    image = photo(32, 32)
    with torch.no_grad():
        expected = model.eval().encode_image(transform(image)[None])  # type: ignore[operator]
        assert torch.allclose(phi(as_tensor(image)), expected, atol=1e-5)


class Products(TorchDispatchMode):
    """Shapes of the right-hand sides of batched products."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.bmm.default:
            self.shapes.append(tuple(args[1].shape))
        return func(*args, **(kwargs or {}))


def test_no_weight_is_copied_for_each_patch(tiny_clip: Path) -> None:
    """Autocast on CPUs: batched products with a matrix per patch, as open_clip's tower makes them by itself."""

    def batched_products(tower: Any) -> list[tuple[int, ...]]:
        image = torch.zeros(2, 3, 32, 32, requires_grad=True)
        with Products() as products, torch.autocast("cpu", torch.bfloat16):
            tower(image).float().sum().backward()
        return [shape for shape in products.shapes if shape[0] == 17]  # 4 × 4 patches and the class token

    assert batched_products(open_clip.create_model("tiny", pretrained=str(tiny_clip)).visual.requires_grad_(False))
    assert not batched_products(create_semantic_encoder("clip", clip_model="tiny", clip_pretrained=str(tiny_clip)))


def test_a_tower_without_a_transformer_stays_as_it_is() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    semantic.let_patches_lead(nn.Sequential(attention))
    assert attention.batch_first


@pytest.mark.parametrize("side", [32, 64, 96, 50])
def test_preprocessing_equals_open_clips_transform_on_photographs(tiny_clip: Path, side: int) -> None:
    phi = create_semantic_encoder("clip", clip_model="tiny", clip_pretrained=str(tiny_clip))
    _, _, transform = open_clip.create_model_and_transforms("tiny", pretrained=str(tiny_clip))
    image = photo(side, side)
    difference = (phi.preprocess(as_tensor(image)) - transform(image)[None]).abs().max()
    # Theirs rounds to 8 bits after each of two passes: about a gray level, divided by the smallest deviation.
    assert difference <= 1.1 / 255 / min(open_clip.OPENAI_DATASET_STD)


def test_it_is_frozen_and_stays_in_eval_mode_but_passes_gradients() -> None:
    phi = SemanticEncoder(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12)), 2, (0.5,) * 3, (0.5,) * 3)
    nn.ModuleList([phi]).train()
    assert not phi.training and not phi.backbone.training
    image = torch.rand(2, 3, 8, 8, requires_grad=True)
    phi(image).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in phi.parameters())


def test_efficientnet_lite0_tells_the_same_photo_from_another() -> None:
    phi = create_semantic_encoder("efficientnet_lite0", resize=96)
    rng = np.random.default_rng(1)
    first, second = photo(96, 96), Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
    brighter = first.point(lambda value: min(255, int(value * 1.15)))
    with torch.no_grad():
        a, b, c = (phi(as_tensor(image)) for image in (first, brighter, second))
    same, other = torch.cosine_similarity(a, b).item(), torch.cosine_similarity(a, c).item()
    assert same > 0.7 > other


def test_a_gray_image_counts_as_color() -> None:
    phi = SemanticEncoder(nn.Flatten(), 2, (0.5,) * 3, (0.5,) * 3)
    assert phi(torch.zeros(1, 1, 2, 2)).shape == (1, 12)


def test_missing_weights_without_a_network_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(semantic, "_is_cached", lambda repository: False)
    monkeypatch.setattr(semantic, "_hub_answers", lambda: False)
    monkeypatch.setattr(open_clip, "create_model", refuse)
    with pytest.raises(UserError, match=r"cannot be had .*--lambda_intra 0"):
        create_semantic_encoder("clip")


def test_an_unknown_tag_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"opanai.*did you mean 'openai'"):
        create_semantic_encoder("clip", clip_pretrained="opanai")


def test_a_file_that_is_no_clip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="--clip_pretrained"):
        create_semantic_encoder("clip", clip_pretrained=str(tmp_path / "weights.pt"))


def test_vgg16_from_a_local_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--semantic_weights .*absent\.pth does not exist"):
        create_semantic_encoder("vgg16", weights_file=str(tmp_path / "absent.pth"))


def test_an_unknown_encoder_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="resnet"):
        create_semantic_encoder("resnet")
