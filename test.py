"""Test a trained model, or just use it.

    python test.py --dataroot ./datasets/raincityscapes --name rcs
    python test.py --input photos/ --checkpoint rcs

The first writes results/<name>/<phase>_<epoch>/: images by label, index.html and, where testA and testB pair by
name, metrics.csv and metrics.json. The second derains an image, a folder or a video: docs/derain.md. The architecture
comes from the run.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from data.creation import create_test_dataset
from data.derain.pictures import Network
from data.derain.run import derain
from models import MODELS, create_model
from models.networks import describe_state
from options import Options, parse_test
from options.flags import TEST
from options.memory_check import limited_weights
from options.runs import weights_of
from util.command_line import set_up_logging
from util.engine.device import choose_device
from util.engine.inference import NATIVE, Translator
from util.engine.oom import explain_oom
from util.engine.precision import set_precision
from util.engine.records import choice_of
from util.engine.weights import load_weights
from util.errors import entry_point
from util.metrics.metric import shown_metrics
from util.metrics.report import AFTER, BEFORE, means_table
from util.option import Scope
from util.pages.labels import INPUT, OUTPUT, TARGET, headings
from util.results import ResultFolder
from util.tables import as_text

logger = logging.getLogger("test")


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Test or derain as the command line says."""
    set_up_logging()
    opt = parse_test(argv)
    set_up_logging(verbose=opt.verbose)
    device = choose_device(opt.gpu_ids)
    precision = set_precision(opt.precision, device)
    with limited_weights(opt, device):
        model = create_model(opt, training=False)
    weights = weights_of(opt)
    load_weights(model.nets, weights, opt.epoch, describe_state)
    # Published figures are those of whole images at their own size: a data set gets another one only if asked.
    work_size = opt.work_size if opt.input or "work_size" in opt.given else NATIVE
    with explain_oom("the network does not fit", device, "close other programs, or pass --gpu_ids -1"):
        translate = Translator(
            model,
            device=device,
            precision=precision,
            evaluation_mode=opt.eval,
            work_size=work_size,
            strength=opt.strength,
            self_ensemble=opt.self_ensemble,
            tile=opt.tile,
            overlap=opt.tile_overlap,
        )
    words = {**headings(opt.direction), **model.headings}
    version = weights.name if weights.is_file() else f"epoch {opt.epoch}"
    notes = [f"Model {opt.model}, {version}, direction {opt.direction}, {precision}."]
    if not opt.eval:
        notes.append("Networks in training mode (--eval false).")
    if work_size != NATIVE:
        notes.append(f"Larger images computed at a shorter side of {work_size} pixels (--work_size).")
    if opt.strength != 1:
        notes.append(f"{opt.strength:g} times the change (--strength).")
    if opt.self_ensemble:
        notes.append("Mean over eight ways to turn and mirror each image (--self_ensemble).")
    if opt.tile:
        notes.append(f"Tiles of {opt.tile} pixels that share {opt.tile_overlap} (--tile, --tile_overlap).")
    if opt.input:
        derain_input(opt, translate, words, notes)
    else:
        test_dataset(opt, translate, words, notes)


def derain_input(opt: Options, translate: Translator, words: Mapping[str, str], notes: Sequence[str]) -> None:
    """Derain the pictures that ``--input`` names."""
    of_data_sets = [option.name for option in TEST.options if option.scope in (Scope.DATASET, Scope.IMAGES)]
    if useless := [f"--{name}" for name in of_data_sets if name in opt.given]:
        logger.warning("%s: without a meaning for --input, which takes whole pictures", ", ".join(useless))
    summary, place = derain(
        Path(opt.input).expanduser(),
        Network(translate, opt.input_nc, opt.batch_size),
        results=Path(opt.results_dir) / opt.name,
        output=Path(opt.output).expanduser() if opt.output else None,
        threads=max(1, min(opt.num_threads, os.cpu_count() or 1)),
        skip_bad=opt.skip_bad,
        title=opt.name,
        words=words,
        notes=notes,
    )
    print(f"derained {summary}")
    print(f"results: {place}")


def test_dataset(opt: Options, translate: Translator, words: Mapping[str, str], notes: Sequence[str]) -> None:
    """Translate the test images of a data set, and measure where there is ground truth."""
    choice = choice_of(weights_of(opt), opt.epoch, opt.phase)
    if choice:
        logger.info("%s", choice)
    dataset = create_test_dataset(opt, MODELS.get(opt.model).streams)
    with ResultFolder(Path(opt.results_dir) / opt.name / f"{opt.phase}_{opt.epoch}", words) as results:
        for item in tqdm(dataset, total=len(dataset), desc="test", unit="image", disable=None):
            images = {INPUT: item.source, OUTPUT: translate(item.source)}
            if item.target is not None:
                images[TARGET] = item.target
            results.add(item.name, images)
        notes = (*notes, f"Processed {len(dataset)} of {dataset.available} images.", *([choice] if choice else []))
        evaluation = results.finish(title=f"{opt.name}: {opt.phase}, {opt.epoch}", notes=notes, protocol=opt.protocol)
    logger.info("processed %d of %d images", len(dataset), dataset.available)
    if evaluation is not None:
        metrics = shown_metrics(evaluation.protocol)
        print(as_text(means_table(evaluation, metrics=metrics, words={BEFORE: words[INPUT], AFTER: words[OUTPUT]})))
    print(f"results: {results.path / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
