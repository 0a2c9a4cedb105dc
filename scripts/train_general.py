"""Train, choose, publish and measure the general deraining model: the recipe of the cclgan model, in one command.

  python scripts/train_general.py --photos photos                      # folders debian, driving, sun_hays, urban100
  python scripts/train_general.py --photos my_photos --split my_split.yaml --name mine --publish checkpoints/mine_small

Steps, each only where it is not done already:
  1. dataset   rain drawn on half of the training photographs, the others stay clean; pairs for validation and test
  2. training  train.py --recipe scripts/general.yaml; an interrupted one continues
  3. publish   the mean of the last stage's generators that were kept, in half precision, with its options
  4. measure   test.py on the test scenes, and on the same scenes without rain

The same photographs, seed and machine give the same checkpoint. docs/general_model.md tells where the photographs come
from. Flags behind -- go to train.py, for a variant of the recipe; they hold for all stages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

import test as test_program
import train as train_program
from options.runs import read_options
from scripts._general.dataset import CLEAN, make_dataset
from scripts._general.measure import gain_by_input, table
from scripts._general.publish import publish, write_card
from scripts._general.split import split_photos
from util.command_line import CommandLine
from util.engine.device import choose_device
from util.environment import describe_environment
from util.errors import UserError, entry_point
from util.names import OPTIONS_FILE, PRETRAINED, check_name

RECIPE = ROOT / "scripts" / "general.yaml"
SPLIT = ROOT / "scripts" / "_general" / "split.yaml"
AVERAGED = ("24", "26", "28", "30", "32")  # the epochs that the last stage keeps


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: no such folder, or a number out of range.
    """
    parser = CommandLine(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of rain-free photographs, with sub-folders")
    parser.add_argument("--split", type=Path, default=SPLIT, help="YAML: which are for test and validation")
    parser.add_argument("--out", type=Path, default=ROOT / "datasets" / "general_rain", help="folder of the dataset")
    parser.add_argument("--name", default="general", help="of the run in checkpoints/ and results/ (%(default)s)")
    parser.add_argument("--publish", type=Path, default=PRETRAINED / "cclgan", help="folder of the model (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the training (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw rain")
    parser.add_argument("train_flags", nargs="*", metavar="-- flags", help="of train.py")
    args = parser.parse_args(argv)
    check_name(args.name)
    if not args.photos.is_dir():
        raise UserError(f"--photos {args.photos}: there is no such folder; give one that holds photographs.")
    for name, least in (("seed", 0), ("workers", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be {least} or more.")
    return args


def train(args: argparse.Namespace, checkpoints: Path) -> Path:
    """Train all stages, or continue an interrupted training; the run's folder.

    Raises:
        UserError: the training failed or was stopped.
    """
    run = checkpoints / args.name
    where = ["--name", args.name, "--checkpoints_dir", str(checkpoints), "--dataroot", str(args.out)]
    command = ["--recipe", str(RECIPE), *where, "--seed", str(args.seed), *args.train_flags]
    if code := train_program.main(command):
        raise UserError(f"the training of {run} ended with exit code {code}; the same command continues it.")
    return run


def measure(args: argparse.Namespace, model: Path, results: Path) -> dict[str, Any]:
    """Test the published model on the rainy test scenes, and on the clean ones.

    Raises:
        UserError: a test failed.
    """
    facts: dict[str, Any] = {}
    flags = ["--checkpoint", str(model), "--results_dir", str(results)]
    clean = args.out / CLEAN
    for kind, root in (("rainy", args.out), ("clean", clean)):
        own = [*flags, "--name", f"{args.name}_{kind}", "--dataroot", str(root)]
        if test_program.main(own):
            raise UserError(f"the test on {root} has failed; see above.")
        folder = results / f"{args.name}_{kind}" / "test_latest"
        mean = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["mean"]
        facts[kind] = {key: round(value, 4) for key, value in mean.items() if value is not None}
        if kind == "rainy":
            facts["gain_by_input"] = gain_by_input(folder / "metrics.csv")
    return facts


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Run the steps and print what came out."""
    args = parse(argv)
    split = split_photos(args.photos, args.split)
    dataset = make_dataset(args.photos, split, args.out, workers=args.workers)
    run = train(args, ROOT / "checkpoints")
    facts = {"model": publish(run, AVERAGED, args.publish), "test": measure(args, args.publish, ROOT / "results")}
    data = {name: part["sha256"]["images"] for name, part in dataset["parts"].items()}
    environment = describe_environment(choose_device("auto"))
    seed = read_options(run / OPTIONS_FILE)["seed"]
    write_card(args.publish, {**facts, "seed": seed, "dataset": data, "environment": environment})
    print(table(facts["test"]["gain_by_input"]))
    print(f"clean pictures against themselves: {facts['test']['clean']['psnr']:.2f} dB")
    print(f"published: {args.publish}, {facts['model']['bytes'] / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
