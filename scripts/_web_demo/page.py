"""The web demo's page, in Gradio: upload, slider, download. Nothing on it comes from another machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts._web_demo.derain import Derained
from util.errors import UserError
from util.pictures import SUFFIXES, UnreadablePicture

INSTALL = "pip install gradio"
LOOPBACK = ("127.0.0.1", "localhost")
SANS, MONOSPACE = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
SLIDER_HEIGHT = 640  # pixels
OTHER_SUFFIXES = (".gif", ".jp2")
"""Of pictures that are read as well; they come back as PNG."""


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
