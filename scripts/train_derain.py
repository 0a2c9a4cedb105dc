"""Train the derainer that ships, from clean photographs to the published file, in one command.

  python scripts/train_derain.py --photos photos --rain_photos rain_photos
  python scripts/train_derain.py --photos photos --share 0.1 --name probe --publish checkpoints/probe_small

Steps, each only where it is not done already:
  1. photographs  every photograph at three sizes, in --out; rain is drawn on them while training
  2. training     train.py with scripts/derain_options.yaml, in stages of growing crops; an interrupted one continues
  3. real rain    after the first stage: what the network takes off the photographs in --rain_photos falls on clean ones
                  as well from then on
  4. publish      the averaged network as safetensors, with its options

Flags behind -- go to train.py. docs/derainer.md tells where the photographs of the shipped model come from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

import yaml
from PIL import Image
from safetensors.torch import save_file

import test as test_program
import train as train_program
from data.files import find_images, require_images
from options.flags import GENERATOR_OPTIONS
from options.runs import read_options
from scripts.extract_rain import extract
from util.command_line import CommandLine
from util.engine.checkpoint import STATE_FILE
from util.engine.weights import SAFETENSORS, load_file, net_file
from util.errors import UserError, entry_point
from util.names import OPTIONS_FILE, PRETRAINED, check_name
from util.pictures import read_eight_bit

OPTIONS = ROOT / "scripts" / "derain_options.yaml"
STEPS_AN_EPOCH = 200
LARGEST_SIDE = 720  # the shorter side of the largest of a photograph's sizes
SIZES = (1.0, 0.72, 0.5)
RAIN_SIDES = (480, 300)  # shorter sides of the photographs of real rain
SMALLEST_SIDE = 200  # holds the largest crop
WORK_SIZE = 768  # shorter side at which the published model sees larger pictures of --input
KEPT_OPTIONS = ("model", "direction", *GENERATOR_OPTIONS)


class Stage(NamedTuple):
    """Crops of one size, up to an epoch. The first stage ends where real rain is taken up."""

    last_epoch: int
    crop_size: int
    batch_size: int


STAGES = (Stage(43, 96, 8), Stage(77, 96, 8), Stage(111, 128, 5), Stage(136, 192, 2))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: no such folder, or a number out of range.
    """
    parser = CommandLine(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photographs, with sub-folders")
    parser.add_argument("--rain_photos", type=Path, help="folder of photographs of real rain (none)")
    parser.add_argument("--out", type=Path, default=ROOT / "datasets" / "derain", help="folder of their sizes")
    parser.add_argument("--name", default="derain", help="of the run in checkpoints/ (%(default)s)")
    parser.add_argument("--publish", type=Path, default=PRETRAINED / "derain", help="folder of the model (%(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of the epochs; less for a probe (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the training (%(default)s)")
    parser.add_argument("train_flags", nargs="*", metavar="-- flags", help="of train.py")
    args = parser.parse_args(argv)
    check_name(args.name)
    if not args.photos.is_dir():
        raise UserError(f"--photos {args.photos}: there is no such folder; give one that holds photographs.")
    if args.rain_photos and not args.rain_photos.is_dir():
        raise UserError(f"--rain_photos {args.rain_photos}: there is no such folder; give one, or leave the flag out.")
    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share}: must be above 0 and at most 1.")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or more.")
    return args


def resize_photos(photos: Path, out: Path) -> Path:
    """Every photograph at its sizes, in ``out``/trainB; those that are there already are left."""
    folder = out / "trainB"
    for file in require_images(photos, find_images(photos)):
        missing = [size for size in SIZES if not _target(folder, file.name, size).is_file()]
        if not missing:
            continue
        image = read_eight_bit(file.path)
        largest = min(1.0, LARGEST_SIDE / min(image.size))
        for size in missing:
            sides = [max(SMALLEST_SIDE, round(side * largest * size)) for side in image.size]
            target = _target(folder, file.name, size)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.tmp")
            image.resize((sides[0], sides[1]), Image.Resampling.LANCZOS).save(partial, "PNG")
            partial.replace(target)
    return out


def _target(folder: Path, name: str, size: float) -> Path:
    return folder / f"{size:g}" / Path(name).with_suffix(".png")


def train(args: argparse.Namespace, dataset: Path, checkpoints: Path) -> Path:
    """All stages, or what is left of them; the run's folder.

    Raises:
        UserError: the training failed or was stopped.
    """
    run = checkpoints / args.name
    stages = [stage._replace(last_epoch=max(1, round(stage.last_epoch * args.share))) for stage in STAGES]
    where = ["--name", args.name, "--checkpoints_dir", str(checkpoints), "--dataroot", str(dataset)]
    for number, stage in list(enumerate(stages))[stage_of(run, stages) :]:
        started = (run / STATE_FILE).is_file()
        opening = ["--continue_train"] if started else ["--config", str(OPTIONS), "--seed", str(args.seed)]
        sizes: dict[str, object] = {
            "crop_size": stage.crop_size,
            "batch_size": stage.batch_size,
            "epoch_size": STEPS_AN_EPOCH * stage.batch_size,
            "n_epochs": stage.last_epoch,
            "n_epochs_decay": 0,
            "lr_horizon": stages[-1].last_epoch,
        }
        if args.rain_photos and number > 0:
            sizes["rain_layers"] = str(take_rain(args.rain_photos, run, args.out.with_name(f"{args.out.name}_rain")))
        flags = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
        if code := train_program.main([*where, *opening, *flags, *args.train_flags]):
            raise UserError(f"the training of {run} ended with exit code {code}; the same command continues it.")
    return run


def take_rain(photos: Path, run: Path, out: Path) -> Path:
    """Layers of what the run's network takes off rainy photographs, unless they are there; their folder.

    Raises:
        UserError: a photograph cannot be read, or none gave a layer.
    """
    layers = out / "layers"
    if layers.is_dir():
        return layers
    resized, derained, partial = out / "rainy", out / "derained", out / "layers.partial"
    for file in require_images(photos, find_images(photos)):
        image = read_eight_bit(file.path)
        for side in RAIN_SIDES:
            factor = min(1.0, side / min(image.size))
            width, height = (round(length * factor) for length in image.size)
            target = _target(resized, file.name, side)
            target.parent.mkdir(parents=True, exist_ok=True)
            image.resize((width, height), Image.Resampling.LANCZOS).save(target, "PNG")
    if test_program.main(["--checkpoint", str(run), "--input", str(resized), "--output", str(derained)]):
        raise UserError(f"the photographs of {photos} could not be derained; see above.")
    shutil.rmtree(partial, ignore_errors=True)
    if extract(resized, derained, partial) == 0:
        raise UserError(
            f"--rain_photos {photos}: no photograph gave a layer of rain; use others, or train longer first."
        )
    return partial.rename(layers)


def stage_of(run: Path, stages: Sequence[Stage]) -> int:
    """The stage that the run is in; 0 where there is no run."""
    if not (run / STATE_FILE).is_file():
        return 0
    epochs = read_options(run / OPTIONS_FILE)["n_epochs"]
    return next((number for number, stage in enumerate(stages) if stage.last_epoch >= epochs), len(stages) - 1)


def publish(run: Path, folder: Path) -> dict[str, object]:
    """Write the run's network as safetensors, with the options that it needs; its facts.

    Raises:
        UserError: the run has no such network.
    """
    source = net_file(run, "latest", "G")
    state = {key: value.contiguous() for key, value in load_file(source).items()}
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.with_suffix(SAFETENSORS).name
    save_file(state, target)
    options = read_options(run / OPTIONS_FILE)
    kept = {**{name: options[name] for name in KEPT_OPTIONS if name in options}, "work_size": WORK_SIZE}
    (folder / OPTIONS_FILE).write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    content = target.read_bytes()
    return {
        "file": target.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": sum(value.numel() for value in state.values()),
    }


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Run the steps and say what came out."""
    args = parse(argv)
    run = train(args, resize_photos(args.photos, args.out), ROOT / "checkpoints")
    facts = publish(run, args.publish)
    print(json.dumps(facts, indent=1))
    print(f"published: {args.publish}")


if __name__ == "__main__":
    sys.exit(main())
