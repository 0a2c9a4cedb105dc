"""Test a trained model: python test.py --dataroot ./datasets/raincityscapes --name rcs

Writes results/<name>/<phase>_<epoch>/: images by label, index.html and, where testA and testB pair by name,
metrics.csv and metrics.json. The architecture comes from the run.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data import create_test_dataset
from models import create_model
from models.networks.describe import describe_state
from options import parse_test
from util.engine.checkpoint import load_nets
from util.engine.device import choose_device, choose_precision
from util.engine.records import choice_of
from util.engine.translator import Translator
from util.errors import entry_point
from util.evaluation import summary_table
from util.logs import set_up_logging
from util.pages.labels import headings
from util.results import INPUT, OUTPUT, TARGET, ResultFolder

logger = logging.getLogger("test")


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Test as the command line says."""
    set_up_logging()
    opt = parse_test(argv)
    set_up_logging(verbose=opt.verbose)
    device = choose_device(opt.gpu_ids)
    model = create_model(opt, training=False)
    run = Path(opt.checkpoints_dir) / opt.name
    load_nets(model.nets, run, opt.epoch, describe_state)
    choice = choice_of(run, opt.epoch, opt.phase)
    if choice:
        logger.info("%s", choice)
    dataset = create_test_dataset(opt)
    precision = choose_precision(opt.precision, device)
    translate = Translator(model, device=device, precision=precision, evaluation_mode=opt.eval)
    words = {**headings(opt.direction), **model.headings}
    with ResultFolder(Path(opt.results_dir) / opt.name / f"{opt.phase}_{opt.epoch}", words) as results:
        for item in tqdm(dataset, total=len(dataset), desc="test", unit="image", disable=None):
            images = {INPUT: item.A, OUTPUT: translate(item.A)}
            if item.B is not None:
                images[TARGET] = item.B
            results.add(item.name, images)
        notes = (
            f"Model {opt.model}, epoch {opt.epoch}, direction {opt.direction}, {precision}.",
            f"Processed {len(dataset)} of {dataset.available} images."
            + ("" if opt.eval else " Networks in training mode (--eval false)."),
            *([choice] if choice else []),
        )
        evaluation = results.finish(title=f"{opt.name}: {opt.phase}, {opt.epoch}", notes=notes, protocol=opt.protocol)
    logger.info("processed %d of %d images", len(dataset), dataset.available)
    if evaluation is not None:
        print(summary_table(evaluation, words[INPUT], words[OUTPUT]))
    print(f"results: {results.path / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
