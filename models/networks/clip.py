"""CLIP's image tower through open_clip, and where its weights come from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from util.errors import UserError
from util.text import did_you_mean

_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_PROBE_SECONDS = 5.0
_TALKATIVE = ("huggingface_hub", "open_clip", "root")


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
