"""A run or any other model: its options, its training state, its networks, and the frozen encoders it uses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scripts._doctor.checks import OK, PROBLEM, WARNING, Finding
from util.errors import UserError
from util.names import OPTIONS_FILE, find_weights

if TYPE_CHECKING:
    from options import Options

LOADING_SECONDS = 4.0
NET_FILE = re.compile(r"(?P<tag>.+)_net_(?P<net>.+)\.(pth|safetensors)")
SIDE = 64  # pixels of a test image; any size will do, the encoder resizes
WAYS_OUT = (
    "with network the first training downloads them; else 'python scripts/get_clip.py --out FILE' where there is one, "
    "--semantic_encoder efficientnet_lite0, or --lambda_intra 0"
)


@dataclass(frozen=True)
class Request:
    """The command line: a dataset, a run, or neither."""

    dataroot: str | None
    name: str | None
    checkpoints_dir: str

    def folder(self) -> Path:
        """Where the networks are that ``--name`` means; raises :class:`UserError` if there are none of that name."""
        place = find_weights(self.name or "", Path(self.checkpoints_dir), "--name")
        return place.parent if place.is_file() else place

    def dataset(self) -> Path | None:
        """The folder of images that was named, or else the run's; None if there is neither."""
        if self.dataroot is not None:
            return Path(self.dataroot).expanduser()
        try:
            dataroot = self._saved().get("dataroot")
        except UserError:  # which the check of the run tells
            return None
        return None if dataroot is None else Path(str(dataroot)).expanduser()

    def options_of_run(self) -> Options:
        """The options with which the run would continue.

        Raises:
            UserError: there is no such run, or its options are not valid.
        """
        from options import parse_train

        folder = self.folder()
        where = ["--name", folder.name, "--checkpoints_dir", str(folder.parent), "--continue_train"]
        return parse_train(["--dataroot", str(self.dataset() or "."), *where])

    def options(self) -> Options:
        """The run's options if there is a run with valid ones, else those of a new training."""
        from options import parse_train

        if self.name is not None:
            try:
                return self.options_of_run()
            except UserError:  # which the check of the run tells
                pass
        return parse_train(["--dataroot", self.dataroot or ".", "--checkpoints_dir", self.checkpoints_dir])

    def _saved(self) -> Mapping[str, Any]:
        from options import read_options

        file = self.folder() / OPTIONS_FILE if self.name is not None else None
        return read_options(file) if file is not None and file.is_file() else {}


def check_run(request: Request) -> Iterator[Finding]:
    """The run's options and its training state; raises :class:`util.errors.UserError` where they cannot be used."""
    from util.engine.checkpoint import Checkpointer
    from util.engine.weights import load_file

    opt = request.options_of_run()
    subject, folder = f"run {opt.name}", Checkpointer(Path(opt.checkpoints_dir) / opt.name)
    states = [file for file in (folder.state_file, folder.previous_state_file) if file.is_file()]
    if not states:
        todo = "with --continue_train only the networks continue, the optimizers start fresh"
        yield Finding(WARNING, subject, f"--model {opt.model}, without a training state", todo)
        return
    for number, file in enumerate(states, 1):
        try:
            position = load_file(file)["position"]
            break
        except UserError as error:
            if number == len(states):
                raise
            yield Finding(WARNING, subject, str(error), "--continue_train takes the state before it")
    found = f"--model {opt.model}, continues in epoch {position['epoch']} after {position['total_images']:,} images"
    yield Finding(OK, subject, f"{found}{_who_trains(folder.path)}")


def _who_trains(folder: Path) -> str:
    """A note where a process holds the run's lock."""
    from util.engine.checkpoint import LOCK_FILE
    from util.lock import owner_of

    owner = owner_of(folder / LOCK_FILE)
    return f"; it is being trained now by {owner}" if owner else ""


def check_networks(
    request: Request, budget: float = LOADING_SECONDS, clock: Callable[[], float] = time.monotonic
) -> Iterator[Finding]:
    """Whether the run's network files load: the latest first, then as many as there is time for."""
    from util.engine.weights import load_file

    folder = request.folder()
    files = sorted(
        (path for path in folder.glob("*_net_*") if path.is_file() and NET_FILE.fullmatch(path.name)),
        key=lambda path: -path.stat().st_mtime,
    )
    subject = f"networks of {request.name}"
    if not files:
        yield Finding(WARNING, subject, "there are none yet", "train first, or check --name and --checkpoints_dir")
        return
    end, loaded, bad = clock() + budget, 0, 0
    for path in files:
        if loaded + bad and clock() > end:
            break
        try:
            load_file(path)
            loaded += 1
        except UserError as error:
            bad += 1
            yield Finding(PROBLEM, subject, str(error))
    left = len(files) - loaded - bad
    rest = f", {left} older ones not looked at" if left else ""
    if loaded:
        yield Finding(OK, subject, f"{loaded} of {len(files)} files load{rest}; checkpoints: {', '.join(_tags(files))}")
    if unfinished := [path.name for path in folder.glob(".*.tmp")]:
        found = f"{len(unfinished)} unfinished files of a save that was cut off (first '{unfinished[0]}')"
        yield Finding(WARNING, subject, found, "the next --continue_train sweeps them up")


def _tags(files: list[Path]) -> list[str]:
    """The checkpoints by name: epochs by number, then the rest."""
    tags = {match["tag"] for path in files if (match := NET_FILE.fullmatch(path.name))}
    numbers = sorted(int(tag) for tag in tags if tag.isdecimal())
    shown = [str(number) for number in numbers] if len(numbers) <= 3 else [f"{len(numbers)} epochs up to {numbers[-1]}"]
    return [*shown, *sorted(tag for tag in tags if not tag.isdecimal())]


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

    To be called where the hub's client is told to stay offline (:mod:`scripts._doctor.checks`).
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
