"""Count the floating-point operations of one CCLGAN training step: python scripts/count_flops.py [-- train flags]

Nothing is computed and no weights are needed. Beside our step stands the usual way to write it: the same losses, but
LCL encodes its keys and queries anew, inter-CCL takes its features apart from the adversarial pass, and intra-CCL
embeds four images per domain.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from options import parse_train
from scripts._step_costs import Cost, count
from util.command_line import CommandLine
from util.errors import entry_point

GIGA = 1e9


def markdown(costs: Mapping[str, Cost]) -> str:
    """The costs as a Markdown table in GFLOP."""
    lines = ["| component | forward | backward | sum |", "|---|---:|---:|---:|"]
    for name, (forward, backward) in costs.items():
        numbers = " | ".join(f"{value / GIGA:.2f}" for value in (forward, backward, forward + backward))
        lines.append(f"| {name} | {numbers} |")
    return "\n".join(lines)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, count, print."""
    parser = CommandLine(description=__doc__)
    parser.add_argument(
        "flags", nargs="*", metavar="-- flags", help="of CCLGAN's training, e.g. -- --lambda_identity 0"
    )
    flags = parser.parse_args(argv).flags
    logging.basicConfig(level=logging.ERROR)  # open_clip warns of an encoder without weights, which is what is wanted
    opt = parse_train(["--dataroot", "none", *flags, "--model", "cclgan"])
    costs, usual, one = count(opt)
    whole = sum(cost[0] for cost in costs.values()), sum(cost[1] for cost in costs.values())
    print(f"GFLOP of one step: batch {opt.batch_size}, crop {opt.crop_size}, ngf {opt.ngf}, ndf {opt.ndf}\n")
    print(markdown({**costs, "whole step": whole, "the usual step": usual}))
    passes = costs["generators"][0] / one
    print(f"\nThe generators' forward is {passes:g} passes of one image, {one / GIGA:.2f} GFLOP each.")


if __name__ == "__main__":
    sys.exit(main())
