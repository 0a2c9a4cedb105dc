"""Train and test CCLGAN on a small dataset, from a fresh checkout to a page of derained photographs.

What it does, each step only where it is not done already:
  1. environment  makes .venv in this checkout and installs requirements.txt there (several GB, once)
  2. dataset      draws rain on the photographs in datasets/photos: datasets/rain_demo
  3. training     train.py with scripts/demo_options.yaml, about 5 minutes on 2 CPU cores
  4. testing      test.py on six pictures of scenes that this training has not seen, with the network that was just
                  trained and with the model that ships; prints PSNR and SSIM and the path of a page with both

The semantic encoder of CCLGAN's contrastive loss is EfficientNet-Lite0 (Apache-2.0), which a Python package brings,
instead of CLIP, whose weights need a download from elsewhere. Nothing but the package registry is used.
An interrupted training continues where it stopped when the demo is run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from scripts import _bootstrap
from util.command_line import CommandLine
from util.errors import UserError, entry_point

OPTIONS = ROOT / "scripts" / "demo_options.yaml"
DATASET = ROOT / "datasets" / "rain_demo"
SHIPPED = ROOT / "models" / "pretrained" / "derain"
NAMES = ("trained for 5 minutes here", "shipped model")
DEFAULT_NAME = "rain_demo"
DEFAULT_SEED = 1
TRAINING_STATE = "training_state.pth"  # what train.py --continue_train needs


class StepFailed(Exception):
    """A step ended with another exit code than 0; its own messages have said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Steps:
    """Headings with the time passed, and programs run by the environment's Python."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.python = Path(sys.executable)

    def heading(self, text: str) -> None:
        """Announce a step."""
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        print(f"\n[{minutes}:{seconds:02d}] {text}", flush=True)

    def run(self, script: str, *arguments: str) -> None:
        """Run a script of the checkout; raises :class:`StepFailed` if it fails."""
        code = _bootstrap.run(self.python, [script, *arguments])
        if code:
            raise StepFailed(code)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("--epochs", type=int, help="train so many epochs, half of them with a falling learning rate")
    parser.add_argument("--name", default=DEFAULT_NAME, help="of the run in checkpoints/ and results/ (%(default)s)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of rain and training (%(default)s)")
    parser.add_argument("--retrain", action="store_true", help="train from the start even if there is a trained run")
    parser.add_argument("--verbose", action="store_true", help="show all of pip's output")
    args = parser.parse_args(argv)
    if args.epochs is not None and args.epochs < 1:
        raise UserError(f"--epochs {args.epochs}: at least 1 is needed.")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or more.")
    if Path(args.name).name != args.name or args.name in {"", ".", ".."} or "\\" in args.name:
        raise UserError(f"--name '{args.name}': must be a plain folder name.")
    return args


def training_flags(args: argparse.Namespace) -> list[str]:
    """The flags of train.py for a new run."""
    flags = ["--config", str(OPTIONS), "--name", args.name, "--seed", str(args.seed)]
    if args.epochs is not None:
        falling = args.epochs // 2
        flags += ["--n_epochs", str(args.epochs - falling), "--n_epochs_decay", str(falling)]
    return flags


def settings_of(flags: Sequence[str]) -> str:
    """Fingerprint of what a run depends on: dataset, preset and flags."""
    digest = hashlib.sha256()
    for path in (DATASET / "dataset.yaml", OPTIONS):
        digest.update(path.read_bytes() + b"\0")
    digest.update(json.dumps([flag for flag in flags if flag != str(OPTIONS)]).encode())
    return digest.hexdigest()


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(path: Path, record: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); is the checkout writable?") from error


def train(steps: Steps, args: argparse.Namespace, checkpoints: Path) -> None:
    """Train unless a run with these settings is finished; continue one that was interrupted."""
    record_path = checkpoints / f"{args.name}.demo.json"
    flags = training_flags(args)
    settings = settings_of(flags)
    record = _read_record(record_path)
    begun = (checkpoints / args.name / TRAINING_STATE).is_file() and record.get("settings") == settings
    if begun and record.get("finished") and not args.retrain:
        print(f"checkpoints/{args.name} is trained with these settings already; --retrain starts over.", flush=True)
        return
    _write_record(record_path, {"settings": settings, "finished": False})
    if begun and not args.retrain:
        print("Continuing the training that was interrupted; --retrain starts over.", flush=True)
        steps.run("train.py", "--name", args.name, "--continue_train")
    else:
        steps.run("train.py", *flags)
    _write_record(record_path, {"settings": settings, "finished": True})


def test(steps: Steps, name: str, results: Path) -> tuple[list[Path], Path]:
    """Test what was trained and what ships on the same pictures; their results, and those of the comparison."""
    steps.run("test.py", "--dataroot", str(DATASET), "--name", name)
    shipped = f"{name}_shipped"
    steps.run("test.py", "--dataroot", str(DATASET), "--checkpoint", str(SHIPPED), "--name", shipped)
    tested = [results / run / "test_latest" for run in (name, shipped)]
    page = results / f"{name}_comparison"
    steps.run("scripts/compare.py", *map(str, tested), "--names", *NAMES, "--out", str(page))
    return tested, page


def print_gain(tested: Sequence[Path], page: Path) -> None:
    """Say how much better the derained images are, from each ``metrics.json``, and where to look."""
    for name, results in zip(NAMES, tested, strict=True):
        metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
        gain = metrics["mean"]["psnr"] - metrics["mean"]["input_psnr"]
        print(f"{name}: {gain:+.2f} dB PSNR (protocol {metrics['protocol']}) from the rainy input")
    print("The shipped model has seen these scenes in its training, but not this rain.")
    print(f"Look at both: {page / 'index.html'}")


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps; returns the exit code of the one that failed, or 0."""
    args = parse(argv)
    steps = Steps()
    print((__doc__ or "").strip())
    try:
        steps.heading("1/4 Environment")
        steps.python = _bootstrap.ensure("requirements.txt", verbose=args.verbose)
        print(f"Using {steps.python}", flush=True)
        steps.heading("2/4 Dataset")
        steps.run("scripts/make_demo_dataset.py", "--output", str(DATASET), "--seed", str(args.seed))
        steps.heading("3/4 Training")
        train(steps, args, ROOT / "checkpoints")
        steps.heading("4/4 Testing on unseen scenes")
        tested, page = test(steps, args.name, ROOT / "results")
    except StepFailed as failure:
        return failure.code
    steps.heading("Done")
    print_gain(tested, page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
