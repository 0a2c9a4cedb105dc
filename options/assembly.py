"""From options to the parts of the engine that ``train.py`` puts together."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import torch

from data.creation import create_training_loader
from data.loader import TrainingLoader
from models import Model, create_model
from models.networks.describe import describe_state
from options.checks import decided_by_host
from options.parse import option_facts
from options.room import check_room
from options.schema import Options
from util.engine.compile import AUTO
from util.engine.cuda_graphs import choose_graphs, obstacle
from util.engine.device import keep_freed_memory
from util.engine.distributed import Distributed, Ranks
from util.engine.loop import Frequencies
from util.engine.nonfinite import SKIP
from util.engine.oom import explain_oom_building
from util.engine.precision import set_precision
from util.engine.run_folder import RunFolder
from util.engine.schedule import Schedule
from util.engine.state import Position, TrainingState
from util.engine.step import Stepper, StepSettings
from util.environment import describe_environment
from util.errors import UserError
from util.pages.labels import headings
from util.pages.run_facts import RunFacts
from util.trackers.create import create_trackers
from util.trackers.tracker import Trackers
from util.trackers.visdom import VisdomServer


def check_several(opt: Options, ranks: Ranks) -> None:
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


def training_parts(opt: Options, team: Distributed) -> tuple[TrainingLoader, Model, TrainingState]:
    """Batches, the model and its training at its beginning; in all processes of ``team`` at the same time.

    Raises:
        UserError: options that contradict the data, the machine, the number of processes or each other.
    """
    if team.device.type == "cpu":
        keep_freed_memory()
    loader = create_training_loader(opt, device_type=team.device.type, ranks=team.ranks)
    check_room(opt, team.device, loader.images_per_epoch, processes=team.ranks.world_size)
    torch.manual_seed(opt.seed)
    with explain_oom_building(team.device):
        with team.one_first():  # which may have to fetch pretrained weights
            model = create_model(opt, training=True)
        return loader, model, build_training_state(opt, model, team)


def build_training_state(opt: Options, model: Model, team: Distributed) -> TrainingState:
    """The training of ``model`` at its beginning; see :func:`training_parts`."""
    device = team.device
    precision = set_precision(team.broadcast_object(set_precision(opt.precision, device)), device)
    chosen = {field.name: getattr(opt, field.name) for field in dataclasses.fields(StepSettings)}
    against_graphs = obstacle(
        device,
        precision=precision,
        accumulate=opt.accumulate,
        skip_non_finite=opt.on_nan == SKIP,
        host_decides=decided_by_host(vars(opt)),
        processes=team.ranks.world_size,
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
        team=team,
    )
    schedule = Schedule(opt.lr_policy, opt.lr, opt.n_epochs, opt.n_epochs_decay, opt.lr_decay_iters)
    return TrainingState(stepper, schedule, Position(epoch=opt.epoch_count))


def resume(opt: Options, run: RunFolder, state: TrainingState, team: Distributed) -> bool:
    """Bring the leader's ``state`` to where the run stands, if it goes on, and then all others' to the leader's.

    Returns whether there was a training state; the leader's word.

    Raises:
        UserError: another process trains the run, or its files are missing, damaged or of other options.
    """
    resumed = False
    if opt.continue_train and team.is_main:
        run.claim()
        resumed = run.resume(state, opt.epoch, describe_state)
    if team.world_size > 1:
        resumed, content = team.broadcast_object((resumed, state.state_dict() if team.is_main else {}))
        if not team.is_main:
            state.load_state_dict(content, run.state_file, describe_state)
    return resumed


def trackers_of(opt: Options, run: RunFolder, state: TrainingState, model: Model, *, resumed: bool) -> Trackers:
    """The trackers of the training.

    Raises:
        UserError: a file cannot be written, or an optional tracker cannot start.
    """
    options = option_facts(opt)
    return create_trackers(
        run.path,
        state.position.total_images if resumed else None,
        title=opt.name,
        words={**headings(opt.direction), **model.headings},
        web_page=not opt.no_html,
        visdom=_visdom_server(opt),
        facts=RunFacts(opt.command, options, describe_environment(state.stepper.device), opt.val_protocol),
        config={option.name: getattr(opt, option.name) for option in options},
        optional=opt.trackers,
    )


def _visdom_server(opt: Options) -> VisdomServer | None:
    """Where live plots are to be sent, if they are wanted."""
    if opt.display_id <= 0:
        return None
    return VisdomServer(opt.display_server, opt.display_port, opt.display_env or opt.name, opt.display_ncols)


def frequencies(opt: Options) -> Frequencies:
    """How often to report and to save."""
    return Frequencies(**{field.name: getattr(opt, field.name) for field in dataclasses.fields(Frequencies)})


def run_path(opt: Options) -> Path:
    """Where the run is kept."""
    return Path(opt.checkpoints_dir) / opt.name


def flags_of_run(opt: Options) -> str:
    """The flags by which another command finds this run."""
    flags = ["--name", opt.name]
    for name in ("checkpoints_dir", "plugin"):
        if name in opt.given:
            value = getattr(opt, name)
            flags += [f"--{name}", ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(flags)
