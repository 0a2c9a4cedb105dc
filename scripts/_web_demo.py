"""The web demo: what it does with an uploaded picture, and its page in Gradio, which loads nothing from elsewhere."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.derain.pictures import GRAY, Network, with_colors
from util.errors import UserError
from util.pictures import SUFFIXES, Picture, UnreadablePicture, read_picture, write_picture
from util.pixels import COLOR_CHANNELS, to_eight_bit

PREVIEW_SIDE = 1600  # pixels; the slider shows no more, the download has all
SUFFIX = "_derained"
KEPT_SECONDS = 3600.0

INSTALL = "pip install gradio"
LOOPBACK = ("127.0.0.1", "localhost")
SANS, MONOSPACE = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
SLIDER_HEIGHT = 640  # pixels
OTHER_SUFFIXES = (".gif", ".jp2")
"""Of pictures that are read as well; they come back as PNG."""


@dataclass(frozen=True)
class Derained:
    """A finished picture: its file, and 8-bit RGB previews [H, W, 3] before and after."""

    file: Path
    before: np.ndarray
    after: np.ndarray
    about: str


def derain_upload(path: Path, network: Network, folder: Path) -> Derained:
    """Derain the picture ``path`` into a new folder in ``folder``, as the same kind of file.

    Raises:
        UnreadablePicture: it is no picture, or a damaged one.
        UserError: the result cannot be written, or memory does not suffice.
    """
    start = time.perf_counter()
    before = read_picture(path)
    tensor = before.tensor(network.channels)
    (output,) = network([tensor])
    if tensor.shape[1] == GRAY < before.channels and output.shape[1] == GRAY:
        output = with_colors(output, before.tensor())
    after = before.with_tensor(output)
    target = folder / secrets.token_hex(8) / f"{path.stem}{SUFFIX}{after.suffix}"
    write_picture(after, target)
    seconds = time.perf_counter() - start
    return Derained(target, preview(before), preview(after), _about(after, seconds))


def preview(picture: Picture) -> np.ndarray:
    """[H, W, 3] uint8, made smaller where a side is longer than a screen."""
    pixels = to_eight_bit(picture.pixels)
    if picture.channels == 1:
        pixels = np.repeat(pixels, COLOR_CHANNELS, axis=2)
    image = Image.fromarray(pixels)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _about(picture: Picture, seconds: float) -> str:
    width, height = picture.size
    kind = f"{picture.format}, {picture.bits} bit" + (" with alpha" if picture.alpha is not None else "")
    shown = "" if max(width, height) <= PREVIEW_SIDE else "The slider shows it smaller; the download has its full size."
    notes = [f"{note[0].upper()}{note[1:]}." for note in picture.notes]
    return " ".join([f"{width} × {height} pixels, {kind}, in {seconds:.1f} s.", shown, *notes]).strip()


def forget_old(folders: Iterable[Path], seconds: float = KEPT_SECONDS) -> None:
    """Remove what was put into these folders longer ago than that."""
    limit = time.time() - seconds
    for entry in (entry for folder in folders if folder.is_dir() for entry in folder.iterdir()):
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime >= limit:
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def import_gradio(uploads: Path) -> Any:
    """Gradio, told before it starts where uploads go and to keep quiet.

    Raises:
        UserError: it is not installed.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # A proxy for the internet must not be asked for this machine, or Gradio finds its own server missing.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), *LOOPBACK)))
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"the web demo needs the package Gradio 6, which is not installed here: {INSTALL}") from error
    if int(gradio.__version__.split(".")[0]) < 6:
        raise UserError(f"the web demo needs Gradio 6, and {gradio.__version__} is installed: {INSTALL} --upgrade")
    return gradio


def build_page(gradio: Any, title: str, model: str, derain: Callable[[Path], Derained]) -> Any:
    """The page; ``derain`` does the work for one uploaded file."""

    def on_upload(path: str) -> tuple[Any, Any, str]:
        try:
            done = derain(Path(path))
        except UnreadablePicture as error:
            return nothing(f"**Not derained.** This file cannot be read as an image: {error.reason}.")
        except UserError as error:
            return nothing(f"**Not derained.** {error}")
        return (done.before, done.after), gradio.DownloadButton(value=str(done.file), interactive=True), done.about

    def nothing(message: str = "") -> tuple[Any, Any, str]:
        """Above all no download button that still gives the picture before."""
        return None, gradio.DownloadButton(value=None, interactive=False), message

    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.Markdown(
            f"# Take the rain out of a photograph\n{model}. Pictures stay on the machine that runs this page."
        )
        upload = gradio.File(label="Rainy photograph", file_types=_file_types(), height=140)
        slider = gradio.ImageSlider(
            label="Before and after",
            format="png",
            interactive=False,
            buttons=["fullscreen"],
            max_height=SLIDER_HEIGHT,
        )
        about = gradio.Markdown()
        download = gradio.DownloadButton("Download the derained photograph", variant="primary", interactive=False)
        outputs = [slider, download, about]
        upload.upload(nothing, None, outputs, api_visibility="private", show_progress="hidden").then(
            on_upload, upload, outputs, api_visibility="private", show_progress_on=slider
        )
        upload.clear(nothing, None, outputs, api_visibility="private", show_progress="hidden")
    return page


def _file_types() -> list[str]:
    return [suffix for suffixes in SUFFIXES.values() for suffix in suffixes] + list(OTHER_SUFFIXES)


def serve(gradio: Any, page: Any, *, host: str, port: int, largest: str) -> str:
    """Start answering in threads of their own; returns the address.

    Raises:
        UserError: the port is taken, or there is no such host here.
    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=largest,
            theme=gradio.themes.Default(font=SANS, font_mono=MONOSPACE),
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(
            f"--port {port}: cannot be used on {host}, perhaps another program has it; choose another one."
        ) from error
    return str(address)
