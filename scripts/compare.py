"""Look at the results of several runs side by side: python scripts/compare.py results/a results/b [--out DIR]

Writes DIR/index.html: rows aligned by file name, the input and the ground truth once, each run's output with its
metrics, and a table of means. The images stay in the runs' folders; with --copy they are copied, so that DIR can be
given away. Runs that were measured by different protocols are refused. Images that are not in every run, or that have
another input or ground truth there, are marked and do not count in the means.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from util.command_line import CommandLine, set_up_logging
from util.errors import UserError, entry_point
from util.files import real_path
from util.pages.comparison import Run, compare_runs, copy_images, link_images, load_runs
from util.pages.manifest import MANIFEST_NAME, load_manifest
from util.pages.result_page import PAGE_NAME, means_table, write_result_page
from util.tables import as_text

DEFAULT_OUT = Path("results") / "comparison"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's name, or its results (results/rain)")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="of the page (%(default)s)")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what the runs are called, in their order")
    parser.add_argument("--copy", action="store_true", help="copy the images into DIR")
    parser.add_argument("--no_metrics", action="store_true", help="pictures alone, also of differing protocols")
    return parser.parse_args(argv)


def check_place(out: Path, runs: Sequence[Run]) -> None:
    """Refuse to write over the page of a run, or over another page."""
    if real_path(out) in [real_path(run.folder) for run in runs]:
        raise UserError(f"--out {out}: is the folder of a run; choose another one.")
    if (out / MANIFEST_NAME).exists():
        if not load_manifest(out / MANIFEST_NAME).runs:
            raise UserError(f"--out {out}: holds the results of a test; choose another folder.")
    elif (out / PAGE_NAME).exists():
        raise UserError(f"--out {out}: holds an {PAGE_NAME} that is no comparison; choose another folder.")


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Compare as the command line says."""
    args = parse(argv)
    set_up_logging()
    runs = load_runs(args.runs, args.names)
    check_place(args.out, runs)
    place = (copy_images if args.copy else link_images)(args.out)
    manifest = compare_runs(runs, place, reaches_out=not args.copy, with_metrics=not args.no_metrics)
    page = write_result_page(args.out, manifest)
    if manifest.metrics:
        print(as_text(means_table(manifest)) + "\n")
    left_out = sum(1 for row in manifest.rows if row.excluded)
    print(f"compared {len(manifest.rows) - left_out} of {len(manifest.rows)} images of {len(runs)} runs")
    print(f"comparison: {page}")


if __name__ == "__main__":
    sys.exit(main())
