"""The frozen encoders of CCLGAN: where their weights are, and whether they load without network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from scripts._doctor.report import OK, WARNING, Finding
from scripts._doctor.request import Request
from util.errors import UserError

SIDE = 64  # pixels of a test image; any size will do, the encoder resizes
WAYS_OUT = (
    "with network the first training downloads them; else 'python scripts/get_clip.py --out FILE' where there is one, "
    "--semantic_encoder efficientnet_lite0, or --lambda_intra 0"
)


def check_encoder(request: Request) -> Iterator[Finding]:
    """The encoder that the run, or else a training with the default options, would use."""
    opt = request.options()
    encoder = getattr(opt, "semantic_encoder", None)
    if encoder is None or opt.lambda_intra == 0:
        yield Finding(OK, "semantic encoder", f"not used by this run (--model {opt.model})")
    elif encoder == "clip":
        yield check_clip(opt.clip_model, opt.clip_pretrained)
    else:
        yield check_other(encoder, opt.semantic_weights)


def check_clip(model: str, pretrained: str) -> Finding:
    """CLIP's weights in the hub's cache or in a file; loaded, and used once.

    To be called where the hub's client is told to stay offline (:mod:`scripts._doctor.runner`).
    """
    from scripts.get_clip import embed, weights_file

    subject = f"CLIP weights ({model}, {pretrained})"
    if not Path(pretrained).is_file() and (url := _direct_url(model, pretrained)):
        return Finding(WARNING, subject, f"come from {url}, not from the model hub; not checked here", WAYS_OUT)
    try:
        place = weights_file(model, pretrained)
    except FileNotFoundError:  # what open_clip makes of every failure to get them
        return Finding(WARNING, subject, "not on this machine", WAYS_OUT)
    width = embed(model, pretrained).shape[1]
    return Finding(OK, subject, f"load without network and embed an image as {width} finite numbers: {place}")


def _direct_url(model: str, pretrained: str) -> str:
    """The host that open_clip would download this tag from by itself, past the hub; empty for the hub's tags."""
    import open_clip

    settings = open_clip.get_pretrained_cfg(model, pretrained)
    if settings.get("hf_hub") or settings.get("file"):
        return ""
    return urlsplit(settings.get("url", "")).netloc


def check_other(encoder: str, weights: str | None = None) -> Finding:
    """EfficientNet-Lite0, whose weights a package brings, or VGG16."""
    import torch

    from models.networks.semantic import create_semantic_encoder

    if encoder == "vgg16" and weights is None and not (place := _vgg16_file()).is_file():
        todo = f"with network the first training downloads them; else bring the file to {place}"
        return Finding(WARNING, "vgg16 weights", "not on this machine", todo)
    network = create_semantic_encoder(encoder, weights_file=weights)
    with torch.no_grad():
        embedding = network(torch.linspace(-1, 1, 3 * SIDE * SIDE).view(1, 3, SIDE, SIDE))
    if not embedding.isfinite().all():
        raise UserError(f"--semantic_encoder {encoder}: its weights give numbers that are not finite; get them again.")
    found = f"load without network and embed an image as {embedding.shape[1]} finite numbers"
    return Finding(OK, f"{encoder} weights", found)


def _vgg16_file() -> Path:
    """Where torchvision keeps the weights it downloads."""
    import torch
    from torchvision.models import VGG16_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(VGG16_Weights.IMAGENET1K_V1.url).path).name


def check_fallback(request: Request) -> Iterator[Finding]:
    """EfficientNet-Lite0, which needs no download, if it is not the encoder that is looked at anyway."""
    if getattr(request.options(), "semantic_encoder", None) != "efficientnet_lite0":
        yield check_other("efficientnet_lite0")
