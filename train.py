"""Train a model: python train.py --model cclgan --dataroot ./datasets/raincityscapes --name rcs

Everything about the run is in checkpoints/<name>: options, losses, checkpoints, and a page with intermediate
images. ``--continue_train`` continues where it stopped; ``--help --model X`` lists the options of model X.
On several GPUs: torchrun --nproc_per_node=8 train.py … --batch_size 8
From other weights: --init_from derain. In several stages: --recipe stages.yaml (options/recipe.py).
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
from models import MODELS, Model, create_model
from models.networks import describe_state
from options import Options, parse_train, save_options
from options.flags import TRAIN
from options.memory_check import check_images, limited_weights
from options.parse import option_facts, read_flags
from options.recipe import recipe_commands
from util.command_line import set_up_logging
from util.engine.checkpoint import Checkpointer, NullCheckpointer
from util.engine.compile import AUTO
from util.engine.cuda_graphs import choose_graphs, graph_unsafe_reason
from util.engine.device import choose_device, keep_freed_memory
from util.engine.distributed import Distributed, Ranks, init_distributed
from util.engine.loop import Frequencies, Training
from util.engine.nonfinite import SKIP
from util.engine.oom import explain_oom
from util.engine.precision import set_precision
from util.engine.schedule import Active, Progress, policy_schedule
from util.engine.state import Position, TrainingState
from util.engine.step import Phase, Stepper, StepSettings, trains_tested
from util.engine.stop import SECONDS_PER_HOUR, Deadline
from util.engine.validation import DEFAULT_EVERY, Validation, Validator
from util.engine.weights import load_initial
from util.environment import describe_environment
from util.errors import UserError, entry_point
from util.pages.labels import headings
from util.pages.training_page import RunFacts
from util.trackers.create import create_trackers
from util.trackers.tracker import Trackers
from util.trackers.visdom import VisdomServer

logger = logging.getLogger("train")


@entry_point
def main(argv: Sequence[str] | None = None) -> int | None:
    """Train as the command line says; returns the exit code, None for success."""
    arguments = sys.argv[1:] if argv is None else argv
    if (stages := recipe_commands(arguments)) is not None:
        return next((code for stage in stages if (code := main(continued(stage)))), None)
    ranks = Ranks.from_environment()
    set_up_logging(only_errors=not ranks.is_main)
    with ranks.name_in_errors():
        opt = parse_train(arguments)
        check_distributed(opt, ranks)
        deadline = Deadline(opt.time_limit * SECONDS_PER_HOUR) if opt.time_limit else None
        set_up_logging(verbose=opt.verbose, only_errors=not ranks.is_main)
        device = choose_device(opt.gpu_ids, ranks)
        run_folder = Path(opt.checkpoints_dir) / opt.name
        with init_distributed(ranks, device) as distributed, Checkpointer(run_folder, keep=opt.keep) as run:
            return train(opt, run, distributed, deadline)


def train(opt: Options, run: Checkpointer, distributed: Distributed, deadline: Deadline | None) -> int | None:
    """Train in ``run``, with the other processes of ``distributed``; see :func:`main`."""
    device, is_main = distributed.device, distributed.is_main
    if device.type == "cpu":
        keep_freed_memory()

    # Data
    streams = MODELS.get(opt.model).streams
    loader = create_training_loader(opt, streams, device_type=device.type, ranks=distributed.ranks)
    check_images(opt, device, loader.images_per_epoch, processes=distributed.world_size)

    # Model, and its training at its beginning
    torch.manual_seed(opt.seed)
    with explain_oom("the networks do not fit", device, "lower --ngf, --ndf or --netF_nc"):
        with distributed.one_first(), limited_weights(opt, device):  # one may have to fetch pretrained weights
            model = create_model(opt, training=True)
        if opt.init_from and not opt.continue_train:
            load_initial(model.nets, Path(opt.init_from), opt.epoch, model.inference_nets[0], describe_state)
        state = build_training_state(opt, model, distributed)

    # Validation, and where the run stands
    pairs = create_validation_dataset(opt, streams) if is_main else None
    resumed = resume(opt, run, state, distributed)
    validation = None
    if pairs is not None:
        validator = Validator(pairs, split=opt.val_phase, protocol=opt.val_protocol)
        validation = Validation(state, validator, every=opt.val_freq or DEFAULT_EVERY)
    elif state.records.best:
        logger.warning("%s continues without validation, so its best checkpoints stay what they are", run.path)
    if distributed.broadcast_object(is_finished(state, validation)):
        logger.info("%s is finished; a larger --n_epochs or --n_epochs_decay trains longer", run.path)
        return None

    # Folder and trackers
    trackers = Trackers()
    if is_main:
        run.create(fresh=not opt.continue_train)
        if validation and validation.anew:
            run.put_metrics_aside()
        save_options(opt, run.options_file)
        trackers = trackers_of(opt, run, state, model, resumed=resumed)

    # Loop, which also saves
    every = Frequencies(**{field.name: getattr(opt, field.name) for field in dataclasses.fields(Frequencies)})
    try:
        training = Training(
            state,
            loader,
            run if is_main else NullCheckpointer(),
            trackers,
            every,
            validation,
            deadline=deadline,
            on_nan=opt.on_nan,
            distributed=distributed,
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


def check_distributed(opt: Options, ranks: Ranks) -> None:
    """Raise :class:`UserError` for options that the processes of ``ranks`` cannot train with together.

    Every process finds that out by itself, before it looks for the others.
    """
    if ranks.world_size == 1:
        return
    ranks.check_batch_size(opt.batch_size)
    if opt.compile == AUTO:
        raise UserError(
            "--compile auto: each of several processes would decide by its own clock; use --compile networks or off."
        )
    if ranks.restarts and not opt.continue_train:
        raise UserError(
            "torchrun --max-restarts: a new training would begin again at zero; resume it with --continue_train, which "
            "torchrun may start again."
        )


def build_training_state(opt: Options, model: Model, distributed: Distributed) -> TrainingState:
    """The training of ``model`` at its beginning: networks on their device, optimizers, schedules, position."""
    device = distributed.device
    precision = set_precision(distributed.broadcast_object(set_precision(opt.precision, device)), device)
    model.phases = delay_generators(model, warmup_D=opt.warmup_D, n_critic=opt.n_critic)
    chosen = {field.name: getattr(opt, field.name) for field in dataclasses.fields(StepSettings)}
    unsafe = graph_unsafe_reason(
        device,
        precision=precision,
        accumulate=opt.accumulate,
        skip_non_finite=opt.on_nan == SKIP,
        host_decides=options_decide(opt) or model_decides(model),
        world_size=distributed.world_size,
    )
    chosen["cuda_graphs"] = choose_graphs(opt.cuda_graphs, unsafe)
    stepper = Stepper(
        model,
        device=device,
        precision=precision,
        learning_rate=opt.lr,
        betas=(opt.beta1, opt.beta2),
        seed=opt.seed,
        schedule=policy_schedule(
            opt.lr_policy, n_epochs=opt.n_epochs, n_epochs_decay=opt.n_epochs_decay, decay_iters=opt.lr_decay_iters
        ),
        settings=StepSettings(**chosen),
        skip_non_finite=opt.on_nan == SKIP,
        distributed=distributed,
    )
    return TrainingState(stepper, opt.n_epochs + opt.n_epochs_decay, Position(epoch=opt.epoch_count))


def delay_generators(model: Model, *, warmup_D: int, n_critic: int) -> tuple[Phase, ...]:
    """The model's phases, where those that train what testing needs wait for the discriminators.

    They begin after ``warmup_D`` images, and from then on are active in every ``n_critic``-th step.

    Raises:
        UserError: there is no discriminator to wait for.
    """
    if not warmup_D and n_critic == 1:
        return model.phases
    if all(trains_tested(phase, model) for phase in model.phases):
        flag = "--warmup_D" if warmup_D else "--n_critic"
        raise UserError(f"{flag}: this training has no discriminator that could learn alone; leave it out.")

    def delayed(active: Active) -> Active:
        def is_active(progress: Progress) -> bool:
            its_turn = progress.images >= warmup_D and (progress.step + 1) % n_critic == 0
            return its_turn and active(progress)

        return is_active

    return tuple(
        dataclasses.replace(phase, active=delayed(phase.active)) if trains_tested(phase, model) else phase
        for phase in model.phases
    )


def options_decide(opt: Options) -> str | None:
    """Why steps of these options are not all of one kind, so that they cannot be recorded; None if they are."""
    if opt.pool_size > 0:
        return f"--pool_size {opt.pool_size} draws on the CPU which image comes back; use --pool_size 0"
    if getattr(opt, "flip_equivariance", False):
        return "--flip_equivariance draws on the CPU which images are mirrored"
    return None


def model_decides(model: Model) -> str | None:
    """Why steps of this model are not all of one kind, so that they cannot be recorded; None if they are."""
    if any(phase.optimizer is not None for phase in model.phases):
        return "the model has optimizers of its own"
    if sum(phase.needs_graph for phase in model.phases) > 1:
        return "the model makes its forward pass several times a step, from the same random numbers"
    if type(model).on_epoch is not Model.on_epoch:
        return "the model may change from epoch to epoch"
    return None


def resume(opt: Options, run: Checkpointer, state: TrainingState, distributed: Distributed) -> bool:
    """Bring the main process's ``state`` to where the run stands, if it continues, and all others' to that.

    Returns whether there was a training state, as the main process knows.

    Raises:
        UserError: another process trains the run, or its files are missing, damaged or of other options.
    """
    resumed = False
    if opt.continue_train and distributed.is_main:
        run.claim()
        resumed = run.resume(state, opt.epoch, describe_state)
    if distributed.world_size > 1:
        content = (resumed, state.state_dict() if distributed.is_main else {})
        resumed, content = distributed.broadcast_object(content)
        if not distributed.is_main:
            state.load_state_dict(content, run.state_file, describe_state)
    return resumed


def is_finished(state: TrainingState, validation: Validation | None) -> bool:
    """Whether nothing is left to train, nor to validate."""
    return state.position.epoch > state.total_epochs and not (validation and validation.pending)


def trackers_of(opt: Options, run: Checkpointer, state: TrainingState, model: Model, *, resumed: bool) -> Trackers:
    """The trackers of the training.

    Raises:
        UserError: a file cannot be written, or an optional tracker cannot start.
    """
    options = option_facts(opt)
    visdom = VisdomServer(opt.display_server, opt.display_port, opt.display_env or opt.name, opt.display_ncols)
    return create_trackers(
        run.path,
        state.position.total_images if resumed else None,
        title=opt.name,
        words={**headings(opt.direction), **model.headings},
        web_page=not opt.no_html,
        visdom=visdom if opt.display_id > 0 else None,
        facts=RunFacts(opt.command, options, describe_environment(state.stepper.device), opt.val_protocol),
        config={option.name: getattr(opt, option.name) for option in options},
        optional=opt.trackers,
    )


def continued(command: Sequence[str]) -> tuple[str, ...]:
    """A recipe's command, which continues its run if that has begun."""
    early = read_flags((TRAIN.option("name"), TRAIN.option("checkpoints_dir")), command).texts
    folder = Path(early.get("checkpoints_dir", TRAIN.option("checkpoints_dir").default)) / early["name"]
    return (*command, "--continue_train", "--epoch=latest") if Checkpointer(folder).has_state else tuple(command)


def flags_of_run(opt: Options) -> str:
    """The flags by which another command finds this run."""
    flags = ["--name", opt.name]
    for name in ("checkpoints_dir", "plugin"):
        if name in opt.given:
            value = getattr(opt, name)
            flags += [f"--{name}", ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(flags)


if __name__ == "__main__":
    sys.exit(main())
