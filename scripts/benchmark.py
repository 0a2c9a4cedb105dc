"""Time training steps, inference and data loading, and other projects' training steps next to them.

  python scripts/benchmark.py                                          # all models in fp32 and bf16
  python scripts/benchmark.py --models cut --modes fp32,bf16+compile=networks --against ../CUT
  python scripts/benchmark.py --models "" --sizes 256x256,2048x1024    # only inference
  python scripts/benchmark.py --models "" --sizes "" --loader ./datasets/rain100 --caches ram,none

A mode is a precision, and flags of train.py with or without values behind a plus sign each. Every run is a process
of its own; those of one model take turns, and the convolution whose speed is the ceiling is timed in the same
rounds. Flags behind -- go to all of our models, such as -- --ngf 32.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from scripts._benchmark.driver import OriginalWorker, OurWorker, Samples, check_checkout, run_in_turn, start_all
from scripts._benchmark.report import InferenceRow, LoadingRow, Report, StepRow, Timing, load_warning, machine
from util.command_line import CommandLine
from util.engine.device import choose_device
from util.engine.precision import PRECISIONS
from util.errors import UserError, entry_point
from util.text import did_you_mean

logger = logging.getLogger("benchmark")
FEW_STEPS = 2  # to warm up; Adam's moments are there from the second on
MANY_STEPS = 5  # also for compiling, recording and choosing algorithms
LOADED_EPOCHS = 3
NAIVE = "naive implementation"
ORIGINALS = ("against", "against_cyclegan")
_CPU_MODES = "fp32,bf16"
_GPU_MODES = "fp32,tf32,bf16,bf16+channels_last,bf16+channels_last+compile=networks,bf16+channels_last+cuda_graphs=auto"
_OLD_GPU_MODES = "fp32,fp16"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("--models", default="cut,cycle_gan,cclgan", help="whose training steps to time")
    parser.add_argument("--modes", help="e.g. fp32,bf16,bf16+compile=networks; if not given: what the device has")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="of CUT's repository: its cut and cycle_gan")
    parser.add_argument("--against_cyclegan", type=Path, metavar="CHECKOUT", help="of CycleGAN's repository")
    parser.add_argument("--usual", action="store_true", help="time the naive implementation of cclgan next to ours")
    parser.add_argument("--rounds", type=int, default=5, help="how often each run has its turn")
    parser.add_argument("--repeat", type=int, default=1, help="steps per turn, e.g. 20 on a GPU")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--crop_size", type=int, default=256)
    parser.add_argument("--ngf", type=int, default=64, help="width of generators and discriminators")
    parser.add_argument("--threads", type=int, help="of each process on the CPU; PyTorch's own choice if not given")
    parser.add_argument("--gpu_ids", default="auto", help="as for train.py")
    parser.add_argument("--sizes", default="", help="WIDTHxHEIGHT,… of inference, e.g. 256x256,1024x512,2048x1024")
    parser.add_argument("--loader", metavar="DATAROOT", help="time three epochs of this folder's images")
    parser.add_argument("--caches", default="ram,none", help="values of --cache to load with")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("flags", nargs="*", metavar="-- flags", help="of train.py, for all of our models")
    chosen = parser.parse_args(argv)
    if chosen.rounds < 1 or chosen.repeat < 1:
        raise UserError("--rounds and --repeat must be at least 1.")
    for flag in ORIGINALS:
        if checkout := getattr(chosen, flag):
            check_checkout(flag, checkout)
    return chosen


def default_modes(device: str) -> str:
    """What is worth comparing on this device."""
    if device == "cpu":
        return _CPU_MODES
    return _GPU_MODES if torch.cuda.is_bf16_supported(including_emulation=False) else _OLD_GPU_MODES


def flags_of_mode(mode: str) -> list[str]:
    """``bf16+channels_last+compile=networks`` → ``--precision=bf16 --channels_last --compile=networks``.

    Raises:
        UserError: it does not begin with a precision. (Flags that do not exist are refused where they are parsed.)
    """
    precision, *switches = mode.split("+")
    if precision not in PRECISIONS:
        raise UserError(
            f"--modes {mode}: must begin with a precision{did_you_mean(precision, PRECISIONS)}: "
            f"{', '.join(PRECISIONS)}, then +flag or +flag=value for each flag of train.py."
        )
    return [f"--precision={precision}", *(f"--{switch}" for switch in switches)]


def parse_size(size: str) -> tuple[int, int]:
    """``2048x1024`` → (2048, 1024), width and height.

    Raises:
        UserError: it is not written like that.
    """
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--sizes {size}: give WIDTHxHEIGHT in pixels, for example 1024x512.")
    return int(width), int(height)


def original_flags(flag: str, model: str, args: argparse.Namespace, folder: str, device: str) -> list[str] | None:
    """The other repository's command line for the same training; None if it has no such model.

    Networks are the same as ours by default: antialiased for CUT, plain for CycleGAN. CUT's repository antialiases
    both unless told otherwise; CycleGAN's does not know the flags.
    """
    known = {"against": ("cut", "cycle_gan"), "against_cyclegan": ("cycle_gan",)}
    if model not in known[flag]:
        return None
    side = str(args.crop_size)
    flags = ["--dataroot", folder, "--name", "benchmark", "--checkpoints_dir", folder, "--model", model]
    flags += ["--batch_size", str(args.batch_size), "--crop_size", side, "--load_size", side]
    flags += ["--ngf", str(args.ngf), "--ndf", str(args.ngf), "--no_html", "--display_id", "0"]
    if flag == "against":
        flags += ["--no_antialias", "--no_antialias_up"] if model == "cycle_gan" else []
    return [*flags, "--gpu_ids", "-1" if device == "cpu" else "0"]


def our_flags(args: argparse.Namespace, model: str, mode: str) -> list[str]:
    """The command line of train.py for one of our runs."""
    sizes = [f"--{name}={getattr(args, name)}" for name in ("batch_size", "crop_size", "ngf", "gpu_ids")]
    fixed = ["--dataroot", args.loader or "none", f"--ndf={args.ngf}", f"--load_size={args.crop_size}"]
    return ["--model", model, *fixed, *sizes, *args.flags, *flags_of_mode(mode)]


def time_steps(args: argparse.Namespace, model: str, modes: Sequence[str], device: str) -> list[StepRow]:
    """Training steps of one model in all modes, in turn with the original's."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        workers = start_all(
            [OurWorker(mode, "train", our_flags(args, model, mode), threads=args.threads) for mode in modes], stack
        )
        costs = {worker.name: worker.ask("cost") for worker in workers}
        shape = {"batch_size": args.batch_size, "channels": 3, "crop_size": args.crop_size}
        for flag in ORIGINALS:
            checkout = getattr(args, flag)
            if checkout is not None and (flags := original_flags(flag, model, args, folder, device)):
                name = f"original ({checkout.resolve().name})"
                workers += start_all([OriginalWorker(name, flag, checkout, flags, shape, args.threads)], stack)
        if args.usual and model == "cclgan":
            workers += start_all(
                [OurWorker(NAIVE, "naive", our_flags(args, model, "fp32"), threads=args.threads)], stack
            )
        many = device == "cuda" or any("networks" in mode or "auto" in mode for mode in modes)
        samples = run_in_turn(
            workers, rounds=args.rounds, warm_up=MANY_STEPS if many else FEW_STEPS, repeat=args.repeat
        )
    originals = [statistics.median(each.seconds) for name, each in samples.items() if name not in modes]
    return [
        step_row(model, name, args.batch_size, each, costs.get(name), min(originals, default=None))
        for name, each in samples.items()
    ]


def step_row(
    model: str, mode: str, images: int, samples: Samples, cost: Mapping[str, int] | None, original: float | None
) -> StepRow:
    """What ``samples`` show; ``cost`` of ours alone, and ``original`` the seconds of the fastest original."""
    timing = Timing(tuple(samples.seconds))
    row = StepRow(model, mode, timing, images, samples.peak)
    if cost is None:
        return row
    return dataclasses.replace(
        row,
        flops=cost["flops"],
        bytes_moved=cost["bytes"],
        ceiling_flops=statistics.median(ceiling["flops"] for ceiling in samples.ceilings),
        ceiling_bytes=statistics.median(ceiling["bytes"] for ceiling in samples.ceilings),
        times_original=None if original is None else original / timing.median,
    )


def time_inference(
    args: argparse.Namespace, model: str, modes: Sequence[str], sizes: Sequence[str]
) -> list[InferenceRow]:
    """The generator on images of each size."""
    rows = []
    for mode in modes:
        for size in sizes:
            width, height = parse_size(size)
            with OurWorker(mode, "infer", our_flags(args, model, mode), threads=args.threads) as worker:
                worker.ask("translate", width=width, height=height)
                samples = [worker.ask("translate", width=width, height=height) for _ in range(args.rounds)]
                rows.append(InferenceRow(model, mode, size, Timing(tuple(samples)), worker.ask("peak")))
    return rows


def time_loading(args: argparse.Namespace) -> list[LoadingRow]:
    """Epochs of the data loader with each kind of cache in turn, of files that the system has read before."""
    caches = args.caches.split(",")
    with ExitStack() as stack:
        flags = our_flags(args, "cut", "fp32")
        workers = start_all(
            [OurWorker(cache, "load", [*flags, f"--cache={cache}"], threads=args.threads) for cache in caches], stack
        )
        for file in filter(Path.is_file, Path(args.loader).rglob("*")):
            file.read_bytes()
        found = [
            (worker.name, number, worker.ask("epoch", number=number))
            for number in range(1, LOADED_EPOCHS + 1)
            for worker in (workers if number % 2 else reversed(workers))
        ]
    rows = [LoadingRow(cache, number, int(each["images"]), each["seconds"]) for cache, number, each in found]
    return sorted(rows, key=lambda row: caches.index(row.cache))


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = arguments(argv)
    device = choose_device(args.gpu_ids).type
    modes = [mode for mode in (args.modes or default_modes(device)).split(",") if mode]
    models = [model for model in args.models.split(",") if model]
    sizes = [size for size in args.sizes.split(",") if size]
    chosen = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    report = Report({**chosen, **machine(device)})
    if warning := load_warning():
        logger.warning("warning: %s", warning)
    for model in models:
        logger.info("steps of %s …", model)
        report.steps += time_steps(args, model, modes, device)
    if sizes:
        logger.info("inference …")
        report.inference += time_inference(args, models[0] if models else "cut", modes, sizes)
    if args.loader:
        logger.info("loading …")
        report.loading += time_loading(args)
    print(report.markdown())
    if args.markdown:
        args.markdown.write_text(report.markdown() + "\n", encoding="utf-8")
    if args.json:
        args.json.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
