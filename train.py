"""Train a model: python train.py --model cclgan --dataroot ./datasets/raincityscapes --name rcs

Everything about the run is in checkpoints/<name>: options, losses, checkpoints, and a page with intermediate
images. ``--continue_train`` goes on where it stopped; ``--help --model X`` lists the options of model X.
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from data.creation import create_training_loader, create_validation_dataset
from models import Model, create_model
from models.networks.describe import describe_state
from options import Options, parse_train, save_options
from options.checks import decided_by_host
from options.facts import option_facts
from util.engine.device import choose_device
from util.engine.graphs import choose_graphs, obstacle
from util.engine.interrupt import SECONDS_PER_HOUR, Deadline
from util.engine.nonfinite import SKIP
from util.engine.precision import set_precision
from util.engine.run_folder import RunFolder
from util.engine.schedule import Schedule
from util.engine.state import Position, TrainingState
from util.engine.stepper import Stepper, StepSettings
from util.engine.training import Frequencies, Training
from util.engine.validation import DEFAULT_EVERY, Validation, Validator
from util.environment import describe_environment
from util.errors import entry_point
from util.logs import set_up_logging
from util.pages.labels import headings
from util.pages.run_facts import RunFacts
from util.trackers.audience import VisdomServer, gather_audience

logger = logging.getLogger("train")


@entry_point
def main(argv: Sequence[str] | None = None) -> int | None:
    """Train as the command line says; returns the exit code, None for success."""
    set_up_logging()
    opt = parse_train(argv)
    deadline = Deadline(opt.time_limit * SECONDS_PER_HOUR) if opt.time_limit else None
    set_up_logging(verbose=opt.verbose)
    with RunFolder(Path(opt.checkpoints_dir) / opt.name, keep=opt.keep) as run:
        return train(opt, run, deadline)


def train(opt: Options, run: RunFolder, deadline: Deadline | None) -> int | None:
    """Train in ``run``; see :func:`main`."""
    device = choose_device(opt.gpu_ids)
    loader = create_training_loader(opt, device.type)
    validation_images = create_validation_dataset(opt)
    torch.manual_seed(opt.seed)
    model = create_model(opt, training=True)
    state = untrained(opt, model, device)
    if opt.continue_train:
        run.claim()
    resumed = opt.continue_train and run.resume(state, opt.epoch, describe_state)
    validation = None
    if validation_images is not None:
        validator = Validator(validation_images, split=opt.val_phase, protocol=opt.val_protocol)
        validation = Validation(state, validator, every=opt.val_freq or DEFAULT_EVERY)
    elif state.records.best:
        logger.warning("%s goes on without validation, so its best checkpoints stay what they are", run.path)
    if state.position.epoch > state.schedule.total_epochs and not (validation and validation.pending):
        logger.info("%s is finished; a larger --n_epochs or --n_epochs_decay trains longer", run.path)
        return None
    epochs_left = state.schedule.total_epochs + 1 - state.position.epoch
    state.stepper.expect(epochs_left * len(loader))
    run.create(fresh=not opt.continue_train)
    if validation and validation.anew:
        run.put_metrics_aside()
    save_options(opt, run.options_file)

    audience = gather_audience(
        run.path,
        state.position.total_images if resumed else None,
        title=opt.name,
        words={**headings(opt.direction), **model.headings},
        web_page=not opt.no_html,
        visdom=visdom_server(opt),
        facts=RunFacts(opt.command, option_facts(opt), describe_environment(device), opt.val_protocol),
        further=opt.trackers,
    )
    try:
        training = Training(
            state, loader, run, audience, frequencies(opt), validation, deadline=deadline, on_nan=opt.on_nan
        )
        stopped = training.run()
    finally:
        audience.everyone.close()
    if stopped:
        logger.info("stopped and saved; go on with: python train.py %s --continue_train", flags_of_run(opt))
        return stopped
    logger.info("finished; test with: python test.py %s", flags_of_run(opt))
    if state.records.best:
        logger.info("that is the last epoch; best in validation, for --epoch: %s", state.records.tags())
    return None


def untrained(opt: Options, model: Model, device: torch.device) -> TrainingState:
    """The training of ``model`` at its beginning."""
    precision = set_precision(opt.precision, device)
    chosen = {field.name: getattr(opt, field.name) for field in dataclasses.fields(StepSettings)}
    against_graphs = obstacle(
        device,
        precision=precision,
        accumulate=opt.accumulate,
        skip_non_finite=opt.on_nan == SKIP,
        host_decides=decided_by_host(vars(opt)),
    )
    chosen["cuda_graphs"] = choose_graphs(opt.cuda_graphs, against_graphs)
    stepper = Stepper(
        model,
        device=device,
        precision=precision,
        learning_rate=opt.lr,
        betas=(opt.beta1, opt.beta2),
        seed=opt.seed,
        settings=StepSettings(**chosen),
        skip_non_finite=opt.on_nan == SKIP,
    )
    schedule = Schedule(opt.lr_policy, opt.lr, opt.n_epochs, opt.n_epochs_decay, opt.lr_decay_iters)
    return TrainingState(stepper, schedule, Position(epoch=opt.epoch_count))


def visdom_server(opt: Options) -> VisdomServer | None:
    """Where live plots are to be sent, if they are wanted."""
    if opt.display_id <= 0:
        return None
    return VisdomServer(opt.display_server, opt.display_port, opt.display_env or opt.name, opt.display_ncols)


def flags_of_run(opt: Options) -> str:
    """The flags by which another command finds this run."""
    flags = ["--name", opt.name]
    for name in ("checkpoints_dir", "plugin"):
        if name in opt.given:
            value = getattr(opt, name)
            flags += [f"--{name}", ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(flags)


def frequencies(opt: Options) -> Frequencies:
    """How often to report and to save."""
    names = ("print_freq", "display_freq", "update_html_freq", "save_latest_freq", "save_epoch_freq", "save_by_iter")
    return Frequencies(**{name: getattr(opt, name) for name in names})


if __name__ == "__main__":
    sys.exit(main())
