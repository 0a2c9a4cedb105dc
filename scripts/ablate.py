"""Train and test every row of one of the paper's tables, and write the table.

  python scripts/ablate.py table2 --dataroot ./datasets/raincityscapes --seeds 0,1,2
  python scripts/ablate.py table3 --dataroot ./datasets/rain_demo --dry_run -- --config scripts/demo_options.yaml

Flags behind -- go to train.py in every row. Rows that are done with the same settings are skipped, and an interrupted
training continues, so the same command can be given again and again; it always ends by writing the table.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from data.creation import create_test_dataset
from options import parse_test
from scripts._ablation.grids import GRIDS, Grid
from scripts._ablation.runs import Places, Run, Runner, finished, plan
from scripts._ablation.table import make_table
from util.command_line import CommandLine
from util.errors import UserError, entry_point
from util.metrics.protocols import PROTOCOLS
from util.tables import as_markdown, write_table
from util.text import did_you_mean

EXIT_FAILED = 1


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what stands behind ``--``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = CommandLine(
        description=__doc__,
        usage="%(prog)s GRID --dataroot FOLDER [options] [-- flags of train.py]",
    )
    parser.add_argument("grid", metavar="GRID", help=f"which table: {', '.join(GRIDS)}")
    parser.add_argument("--dataroot", required=True, help="folder of trainA, trainB and the pairs testA, testB")
    parser.add_argument("--seeds", type=seeds, default=(0,), help="one run of each row per seed, e.g. 0,1,2 (0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (%(default)s)")
    parser.add_argument("--checkpoints_dir", type=Path, default=Path("checkpoints"), help="of the runs (%(default)s)")
    parser.add_argument("--results_dir", type=Path, default=Path("results"), help="of the runs (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the table; by default <results_dir>/<GRID>")
    parser.add_argument("--protocol", choices=tuple(PROTOCOLS), default="y", help="of PSNR and SSIM (%(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and write nothing")
    args = parser.parse_args(arguments[:split])
    if args.grid not in GRIDS:
        raise UserError(f"{args.grid}: no such grid{did_you_mean(args.grid, GRIDS)}; choose from {', '.join(GRIDS)}.")
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: at least 1 run at a time is needed.")
    args.out = args.out or args.results_dir / args.grid
    return args, arguments[split + 1 :]


def seeds(text: str) -> tuple[int, ...]:
    """``"0,1,2"`` → (0, 1, 2), each once."""
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of whole numbers like 0,1,2") from None
    if min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' holds a negative number")
    return numbers


def print_commands(runs: Sequence[Run]) -> None:
    """What would be run."""
    done = finished(runs)
    for run in runs:
        if run.name in done:
            print(f"# {run.name}: done, in results of {done[run.name]['source']}")
            continue
        print(f"# {run.name}")
        print(shlex.join(run.train_command()))
        print(shlex.join(run.test_command()))


def check_test_set(run: Run) -> None:
    """Find out before hours of training that there is nothing to measure with; raises :class:`UserError`."""
    opt = run.opt
    as_trained = ["--direction", opt.direction, "--dataset_mode", opt.dataset_mode]
    if not create_test_dataset(parse_test([*run.test_flags, *as_trained, "--eval_pairs", "auto"])).paired:
        raise UserError(
            f"--dataroot {run.places.dataroot}: testA and testB have no pairs of equal file names, so that there is "
            f"nothing to measure with; give the images without rain the names of the rainy ones."
        )


@entry_point
def main(argv: Sequence[str] | None = None) -> int | None:
    """Run a grid and write its table; exit code 1 if a run failed."""
    args, extra = parse(argv)
    grid: Grid = GRIDS[args.grid]
    places = Places(args.dataroot, args.checkpoints_dir, args.results_dir, args.protocol)
    runs = plan(args.grid, grid, args.seeds, places, extra)
    if args.dry_run:
        print_commands(runs)
        return None
    done = finished(runs)
    for name, metrics in done.items():
        print(f"{name}: done" + ("" if metrics["source"] == name else f" as {metrics['source']}"))
    waiting = [run for run in runs if run.name not in done]
    if waiting:
        check_test_set(waiting[0])

    def write() -> str:
        table = make_table(grid, runs, finished(runs), runner.failures, extra, args.out)
        write_table(args.out, args.grid, table)
        return as_markdown(table)

    runner = Runner(args.jobs, args.out / "logs", done=lambda _: write())
    try:
        runner.run_all(waiting)
    finally:
        print(f"\n{write()}\ntable: {args.out / args.grid}.html, .csv, .md, .tex")
    return EXIT_FAILED if runner.failures else None


if __name__ == "__main__":
    sys.exit(main())
