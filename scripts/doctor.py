"""Look at the installation, the machine, a dataset and a run, and say in one line each what is wrong and what to do.

  python scripts/doctor.py                                        # installation and machine
  python scripts/doctor.py --dataroot datasets/rain               # and a dataset
  python scripts/doctor.py --name rain_cclgan                     # and a run, with its dataset and its options
  python scripts/doctor.py --dataroot datasets/rain --json        # the same for programs

"ok" is fine, "warning" works but is worth knowing, "problem" is broken. The exit code is 1 if there is a problem, else
0. Nothing is changed and nothing is downloaded. Works without PyTorch too, and says what it could not look at.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from scripts import _bootstrap  # noqa: F401 - first, because it ends the program on a Python that is too old
from scripts._doctor import dataset, machine, run
from scripts._doctor.checks import PROBLEM, Check, as_json, run_checks, summary
from scripts._doctor.run import Request
from util.command_line import CommandLine
from util.errors import UserError, entry_point

EXIT_PROBLEM = 1
HIGHEST_PORT = 65535
TORCH = ("torch",)
IMAGES = ("numpy", "PIL")
PATIENCE_FOR_DATA = 600.0  # a million headers on a slow disk


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the defaults are those of train.py and test.py."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("--dataroot", metavar="DIR", help="a dataset to look at (with --name: that of the run)")
    parser.add_argument("--name", metavar="RUN", help="a run to look at, or any model that test.py --checkpoint takes")
    parser.add_argument("--checkpoints_dir", default="./checkpoints", metavar="DIR", help="(%(default)s)")
    parser.add_argument("--results_dir", default="./results", metavar="DIR", help="(%(default)s)")
    parser.add_argument("--display_server", default="http://localhost", metavar="URL", help="Visdom's (%(default)s)")
    parser.add_argument("--display_port", default=8097, type=int, metavar="PORT", help="Visdom's (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    args = parser.parse_args(argv)
    for flag in ("dataroot", "name"):
        if getattr(args, flag) == "":
            raise UserError(f"--{flag} is empty; give one, or leave the flag out.")
    if not 0 < args.display_port <= HIGHEST_PORT:
        raise UserError(f"--display_port {args.display_port}: is not a port between 1 and {HIGHEST_PORT}.")
    return args


def shared_memory_needed(request: Request) -> int:
    """Bytes, with the options of the run or of a new training."""
    opt = request.options()
    return machine.shared_memory_needed(workers=opt.num_threads, batch_size=opt.batch_size, crop_size=opt.crop_size)


def checks_for(args: argparse.Namespace) -> list[Check]:
    """All there is to look at, the foundations first."""
    request = Request(args.dataroot, args.name, args.checkpoints_dir)
    checks = [
        Check("Python", partial(machine.check_python, ROOT)),
        Check("packages", partial(machine.check_packages, ROOT / "requirements.txt")),
        Check("PyTorch", machine.check_torch, TORCH, without=PROBLEM),
        Check("torchvision", machine.check_torchvision, ("torch", "torchvision"), without=PROBLEM),
        Check("CUDA", machine.check_driver, TORCH),
        Check("GPU", machine.check_devices, TORCH),
        Check("processor", machine.check_processor, TORCH),
        Check("shared memory", partial(machine.check_shared_memory, partial(shared_memory_needed, request)), IMAGES),
        Check("semantic encoder", partial(run.check_encoder, request), (*TORCH, "open_clip")),
        Check("efficientnet_lite0", partial(run.check_fallback, request), (*TORCH, "timm")),
        Check("checkpoints", partial(machine.check_folder, "--checkpoints_dir", Path(args.checkpoints_dir))),
        Check("results", partial(machine.check_folder, "--results_dir", Path(args.results_dir))),
        Check("Visdom server", partial(machine.check_server, args.display_server, args.display_port)),
        Check("Visdom page", machine.check_page),
    ]
    if args.name is not None:
        checks.append(Check(f"run {args.name}", partial(run.check_run, request), TORCH))
        checks.append(Check(f"networks of {args.name}", partial(run.check_networks, request), TORCH))
    if args.dataroot is not None or args.name is not None:
        checks.append(Check("dataset", partial(dataset.check_dataset, request), IMAGES, seconds=PATIENCE_FOR_DATA))
    return checks


@entry_point
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, make the checks, print what they find."""
    args = parse(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every console knows every character of a file's name
        sys.stdout.reconfigure(errors="backslashreplace")
    findings = []
    with contextlib.closing(run_checks(checks_for(args))) as found:
        for finding in found:
            findings.append(finding)
            if not args.json:
                print(finding.line(), flush=True)
    print(as_json(findings) if args.json else summary(findings))
    return EXIT_PROBLEM if any(finding.status == PROBLEM for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
