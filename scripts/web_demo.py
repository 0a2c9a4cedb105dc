"""A page in your browser that takes the rain out of pictures you drop on it.

  python scripts/web_demo.py --checkpoint rcs
  python scripts/web_demo.py --checkpoint rcs --port 8000 --gpu_ids 0 --amp

It needs Gradio (pip install gradio). Only this machine can open the page unless --host says otherwise; nothing is sent
anywhere, and what was uploaded is removed after an hour and when the demo ends. docs/web_demo.md has more.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from data.derain.pictures import Network
from scripts._trained import FLAGS_HELP, Trained, load_trained
from scripts._web_demo import LOOPBACK, build_page, derain_upload, forget_old, import_gradio, serve
from util.command_line import CommandLine, set_up_logging
from util.engine.device import choose_device
from util.engine.inference import Translator
from util.engine.precision import set_precision
from util.errors import entry_point

DEFAULT_PORT = 7860
TILE = 1536
"""Side of the tiles for larger pictures where --tile does not say it: a common machine's memory holds such a one."""

LARGEST = "200mb"
CLEANING_SECONDS = 600.0
EXIT_TERMINATED = 143


def network_of(trained: Trained) -> Network:
    """The network as ``test.py --input`` has it with these flags, but with tiles for large pictures."""
    opt = trained.opt
    device = choose_device(opt.gpu_ids)
    translate = Translator(
        trained.model,
        device=device,
        precision=set_precision(opt.precision, device),
        evaluation_mode=opt.eval,
        work_size=opt.work_size,
        strength=opt.strength,
        self_ensemble=opt.self_ensemble,
        tile=opt.tile if "tile" in opt.given else TILE,
        overlap=opt.tile_overlap,
    )
    return Network(translate, opt.input_nc)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(EXIT_TERMINATED)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, load the model, serve until interrupted."""
    parser = CommandLine(
        description=__doc__,
        epilog=f"{FLAGS_HELP}, --gpu_ids, --amp or --tile",
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="the page's (%(default)s)")
    parser.add_argument("--host", default=LOOPBACK[0], help="0.0.0.0 lets other machines in (%(default)s)")
    args, flags = parser.parse_known_args(argv)
    set_up_logging()
    with tempfile.TemporaryDirectory(prefix="derain_", ignore_cleanup_errors=True) as temporary:
        uploads, results = Path(temporary) / "uploads", Path(temporary) / "results"
        results.mkdir()
        gradio = import_gradio(uploads)
        trained = load_trained(flags)
        title, model = f"Derain: {trained.opt.name}", f"Model `{trained.opt.name}` ({trained.opt.model})"
        page = build_page(gradio, title, model, partial(derain_upload, network=network_of(trained), folder=results))
        signal.signal(signal.SIGTERM, _end)
        address = serve(gradio, page, host=args.host, port=args.port, largest=LARGEST)
        if args.host not in LOOPBACK:
            print(f"Whoever reaches this machine on port {args.port} can use the page; there is no password.")
        print(f"Open {address} in a browser. Ctrl-C ends the demo.", flush=True)
        try:
            while not threading.Event().wait(CLEANING_SECONDS):
                forget_old((uploads, results))
        finally:
            page.close()


if __name__ == "__main__":
    sys.exit(main())
