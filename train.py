"""Train a model: python train.py --model cclgan --dataroot ./datasets/raincityscapes --name rcs

Everything about the run is in checkpoints/<name>: options, losses, checkpoints, and a page with intermediate
images. ``--continue_train`` goes on where it stopped; ``--help --model X`` lists the options of model X.
On several GPUs: torchrun --nproc_per_node=8 train.py … --batch_size 8
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from data.creation import create_validation_dataset
from options import Options, parse_train, save_options
from options.assembly import (
    check_several,
    flags_of_run,
    frequencies,
    resume,
    run_path,
    trackers_of,
    training_parts,
)
from util.engine.device import choose_device
from util.engine.distributed import Distributed, Ranks, init_distributed
from util.engine.loop import Training
from util.engine.run_folder import NullCheckpointer, RunFolder
from util.engine.state import TrainingState
from util.engine.stop import SECONDS_PER_HOUR, Deadline
from util.engine.validation import DEFAULT_EVERY, Validation, Validator
from util.errors import entry_point
from util.logs import set_up_logging
from util.trackers.tracker import Trackers

logger = logging.getLogger("train")


@entry_point
def main(argv: Sequence[str] | None = None) -> int | None:
    """Train as the command line says; returns the exit code, None for success."""
    ranks = Ranks.from_environment()
    set_up_logging(only_errors=not ranks.is_main)
    with ranks.name_in_errors():
        opt = parse_train(argv)
        check_several(opt, ranks)
        deadline = Deadline(opt.time_limit * SECONDS_PER_HOUR) if opt.time_limit else None
        set_up_logging(verbose=opt.verbose, only_errors=not ranks.is_main)
        device = choose_device(opt.gpu_ids, ranks)
        with init_distributed(ranks, device) as team, RunFolder(run_path(opt), keep=opt.keep) as run:
            return train(opt, run, team, deadline)


def train(opt: Options, run: RunFolder, team: Distributed, deadline: Deadline | None) -> int | None:
    """Train in ``run``, with the other processes of ``team``; see :func:`main`."""
    loader, model, state = training_parts(opt, team)
    pairs = create_validation_dataset(opt) if team.is_main else None
    resumed = resume(opt, run, state, team)
    validation = None
    if pairs is not None:
        validator = Validator(pairs, split=opt.val_phase, protocol=opt.val_protocol)
        validation = Validation(state, validator, every=opt.val_freq or DEFAULT_EVERY)
    elif state.records.best:
        logger.warning("%s goes on without validation, so its best checkpoints stay what they are", run.path)
    if team.broadcast_object(is_finished(state, validation)):
        logger.info("%s is finished; a larger --n_epochs or --n_epochs_decay trains longer", run.path)
        return None
    state.stepper.expect((state.schedule.total_epochs + 1 - state.position.epoch) * len(loader))
    trackers = Trackers()
    if team.is_main:
        run.create(fresh=not opt.continue_train)
        if validation and validation.anew:
            run.put_metrics_aside()
        save_options(opt, run.options_file)
        trackers = trackers_of(opt, run, state, model, resumed=resumed)
    try:
        training = Training(
            state,
            loader,
            run if team.is_main else NullCheckpointer(),
            trackers,
            frequencies(opt),
            validation,
            deadline=deadline,
            on_nan=opt.on_nan,
            team=team,
        )
        stopped = training.run()
    finally:
        trackers.close()
    if stopped:
        logger.info("stopped and saved; go on with: python train.py %s --continue_train", flags_of_run(opt))
        return stopped
    logger.info("finished; test with: python test.py %s", flags_of_run(opt))
    if state.records.best:
        logger.info("that is the last epoch; best in validation, for --epoch: %s", state.records.tags())
    return None


def is_finished(state: TrainingState, validation: Validation | None) -> bool:
    """Whether nothing is left to train, nor to validate."""
    return state.position.epoch > state.schedule.total_epochs and not (validation and validation.pending)


if __name__ == "__main__":
    sys.exit(main())
