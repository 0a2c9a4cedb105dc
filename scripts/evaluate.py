"""Measure any folders of images against ground truth under a named protocol, several results in one table.

  python scripts/evaluate.py --results results/rcs/test_latest
  python scripts/evaluate.py --results ours theirs --gt datasets/rain100l/testB --input datasets/rain100l/testA
  python scripts/evaluate.py --results out --gt image --protocol raincityscapes
  python scripts/evaluate.py --results photos_derained --input photos --metrics niqe,brisque

--results are folders of test.py, whose inputs and ground truth are found, or folders of any program's images, which
pair with --gt by relative path without extension. Nothing is dropped or resized in silence. docs/evaluation.md says
what each protocol is and whose tables have it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from util.command_line import CommandLine, set_up_logging
from util.errors import UserError, entry_point
from util.metrics.evaluate import evaluate
from util.metrics.metric import DEFAULT_METRICS, METRICS, Scorer, choose_metrics
from util.metrics.pairing import (
    GROUND_TRUTH,
    INPUT_LABEL,
    Folder,
    NameRule,
    Results,
    by_pattern,
    default_rule,
    find_results,
    labels_for,
    pair,
    read_folder,
    without_suffixes,
)
from util.metrics.protocols import PROTOCOLS
from util.metrics.report import means_table, write_comparison
from util.names import find_results as resolve
from util.tables import as_text
from util.text import first_names

logger = logging.getLogger("evaluate")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandLine(description=__doc__)
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders, or names of runs",
    )
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="what to call them in the table (their names)")
    parser.add_argument("--gt", type=Path, metavar="DIR", help="ground truth (that of the first results of test.py)")
    parser.add_argument("--input", type=Path, metavar="DIR", help="rainy inputs, the first row (likewise)")
    parser.add_argument(
        "--protocol", default="y", choices=tuple(PROTOCOLS), help="what PSNR and SSIM mean (%(default)s)"
    )
    default = ", ".join(metric.key for metric in DEFAULT_METRICS)
    parser.add_argument("--metrics", metavar="A,B", help=f"{', '.join(METRICS)} ({default})")
    parser.add_argument(
        "--strip_suffix", nargs="+", metavar="S", help="ends of names that do not count, * for anything"
    )
    parser.add_argument("--pattern", metavar="REGEX", help="the part of a name that pairs: its first group")
    parser.add_argument("--allow_missing", action="store_true", help="leave out images without partner, and say so")
    parser.add_argument("--lpips_weights", type=Path, metavar="FILE", help="AlexNet's or VGG16's weights, for lpips")
    parser.add_argument("--workers", type=int, metavar="N", help="threads; the numbers do not depend on it")
    parser.add_argument(
        "--out", type=Path, default=Path("results/evaluation"), metavar="DIR", help="files (%(default)s)"
    )
    return parser.parse_args(argv)


def _labels(args: argparse.Namespace) -> list[str]:
    labels = args.labels or labels_for(args.results)
    if len(labels) != len(args.results):
        raise UserError(f"--labels: are {len(labels)} for {len(args.results)} folders of --results; give one for each.")
    if len({*labels, INPUT_LABEL, GROUND_TRUTH}) < len(labels) + 2:
        raise UserError(f"--labels {' '.join(labels)}: two rows would have one name; give each another.")
    return labels


def _folder(results: Sequence[Results], given: Path | None, kind: str, flag: str, label: str) -> Folder | None:
    """The folder given, or the first that came with our own results."""
    found = [path for path in (getattr(each, kind) for each in results) if path is not None]
    path = given or (found[0] if found else None)
    return None if path is None else read_folder(path, flag=flag, label=label)


def _rule(args: argparse.Namespace, results: Sequence[Folder], target: Folder | None) -> NameRule:
    if args.strip_suffix and args.pattern:
        raise UserError("--pattern: was given together with --strip_suffix; choose one.")
    if args.pattern:
        return by_pattern(args.pattern)
    return without_suffixes(args.strip_suffix) if args.strip_suffix else default_rule(args.protocol, results, target)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Find, pair, measure, write, print."""
    args = parse(argv)
    set_up_logging()
    protocol = PROTOCOLS[args.protocol]
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: is no number of threads; give 1 or more.")
    args.results = [resolve(path) for path in args.results]
    results = [find_results(path, label=label) for path, label in zip(args.results, _labels(args), strict=True)]
    names = None if args.metrics is None else [name.strip() for name in args.metrics.split(",") if name.strip()]
    target = _folder(results, args.gt, "target", "--gt", GROUND_TRUTH)
    metrics = choose_metrics(names, protocol, has_target=target is not None)
    inputs = _folder(results, args.input, "input", "--input", INPUT_LABEL)
    outputs = [each.output for each in results]
    if not any(metric.needs_target for metric in metrics):
        target = None
    folders = [*([] if inputs is None else [inputs]), *outputs]
    pairing = pair(folders, target, _rule(args, outputs, target), inputs_given=inputs is not None,
                   allow_missing=args.allow_missing)  # fmt: skip
    scorer = Scorer(metrics, protocol, lpips_weights=args.lpips_weights)
    evaluation = evaluate(pairing.items, scorer, workers=args.workers)
    for label, left_out in pairing.left_out.items():
        logger.warning("left out because missing in %s: %s", label, first_names(left_out))
    written = write_comparison(args.out, evaluation, pairing)
    print(as_text(means_table(evaluation, left_out=pairing.left_out)))
    first = metrics[0]
    for label in evaluation.labels:
        worst = evaluation.summaries(label)[first.key].worst
        named = ", ".join(f"{name} {first.text(value)}" for name, value in worst)
        print(f"worst {first.heading(protocol)}, {label}: {named}")
    print("written: " + ", ".join(str(path) for path in written))


if __name__ == "__main__":
    sys.exit(main())
