"""Every flag of ``train.py`` and ``test.py``, and who declares which: the two programs, the models and the datasets.

Every frequency counts images, whatever the batch size, but for those of numbered checkpoints and validations, which
count epochs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import data
import models
from data import CACHES, DEFAULT_VAL_PHASE
from data.transforms import PREPROCESS
from models.losses import GAN_MODES
from models.networks import DISCRIMINATORS, GENERATORS
from models.networks.factory import INIT_TYPES
from models.networks.nafnet import BLOCKS
from models.networks.norm import NORMS
from options.schema import (
    block_counts,
    count_or_all,
    decay_rate,
    device_ids,
    duration,
    label,
    name_list,
    port_number,
    tracker_names,
)
from util.engine.compile import COMPILE_MODES
from util.engine.cuda_graphs import GRAPH_MODES
from util.engine.nonfinite import ON_NAN, STOP
from util.engine.precision import PRECISIONS
from util.engine.schedule import LR_POLICIES
from util.engine.validation import DEFAULT_EVERY
from util.errors import UserError
from util.metrics.protocols import PROTOCOLS
from util.option import Option, Scope
from util.registry import Registry
from util.text import did_you_mean

Groups = tuple[tuple[str, tuple[Option, ...]], ...]
"""Options under the headings that ``--help`` shows."""

CALL, RUN, MACHINE, OUTPUT = Scope.CALL, Scope.RUN, Scope.MACHINE, Scope.OUTPUT
DATASET, IMAGES, ARCHITECTURE = Scope.DATASET, Scope.IMAGES, Scope.ARCHITECTURE

DIRECTIONS = ("AtoB", "BtoA")
MAX_SEED = 2**31 - 1  # what every random generator accepts
MAX_WORKERS = 1024
MAX_LAYERS = 16  # halvings: more than the largest side has
MAX_SIDE = 65535  # pixels, as in JPEG

PAIRING = ("auto", "yes", "no")

RUN_OPTIONS: tuple[Option, ...] = (
    Option("dataroot", None, "folder of the images (trainA, trainB, testA, ...); may come from the run", scope=DATASET),
    Option("name", "experiment_name", "the run's name: its folder inside --checkpoints_dir", scope=RUN),
    Option(
        "suffix", "", "appended to the name, filled in with options, e.g. {model}_{netG}_size{load_size}", scope=RUN
    ),
    Option("checkpoints_dir", "./checkpoints", "where the runs are kept", scope=RUN),
    Option("config", None, "YAML file of options; the command line overrides it", scope=CALL),
    Option(
        "plugin",
        (),
        "your models or datasets: .py files or module names, with commas or repeated",
        name_list,
        scope=RUN,
    ),
    Option("model", "cclgan", "the method", scope=ARCHITECTURE),
    Option(
        "epoch",
        "latest",
        "which checkpoint to load: latest, an epoch's number, or best_psnr, best_ssim, …",
        label,
        scope=CALL,
    ),
    Option("gpu_ids", "auto", "a GPU's number, -1 for the CPU, auto: GPU 0 if there is one", device_ids, scope=MACHINE),
    Option("precision", "fp32", "arithmetic; auto: bf16 where clearly faster, else fp32", choices=PRECISIONS),
    Option("seed", 0, "start of every random number: the same seed gives the same run", minimum=0, maximum=MAX_SEED),
    Option("verbose", False, "say more", scope=MACHINE),
)

NETWORK_OPTIONS: tuple[Option, ...] = (
    Option("input_nc", 3, "channels of the source's images: 3 color, 1 gray", scope=ARCHITECTURE, minimum=1),
    Option("output_nc", 3, "channels of the target's images: 3 color, 1 gray", scope=ARCHITECTURE, minimum=1),
    Option("netG", "resnet_9blocks", "generator", choices=GENERATORS, scope=ARCHITECTURE),
    Option("netD", "basic", "discriminator; basic is the 70x70 PatchGAN", choices=DISCRIMINATORS, scope=ARCHITECTURE),
    Option("ngf", 64, "channels of the generator's first layer", scope=ARCHITECTURE, minimum=1),
    Option("ndf", 64, "channels of the discriminator's first layer", scope=ARCHITECTURE, minimum=1),
    Option("n_layers_D", 3, "strided layers of --netD n_layers", scope=ARCHITECTURE, minimum=1, maximum=MAX_LAYERS),
    Option("normG", "instance", "normalization in the generator", choices=NORMS, scope=ARCHITECTURE),
    Option("normD", "instance", "normalization in the discriminator", choices=NORMS, scope=ARCHITECTURE),
    Option("norm", None, "sets --normG and --normD together", choices=NORMS, scope=ARCHITECTURE),
    Option("no_dropout", True, "generator without dropout; '--no_dropout false' turns dropout on", scope=ARCHITECTURE),
    Option("no_antialias", False, "plain strided convolutions instead of blurred downsampling", scope=ARCHITECTURE),
    Option("no_antialias_up", False, "transposed convolutions instead of blurred upsampling", scope=ARCHITECTURE),
    Option("residual", False, "the generator predicts a change: output = input + network(input)", scope=ARCHITECTURE),
    Option(
        "nafnet_blocks",
        BLOCKS,
        "blocks of --netG nafnet: on each level down, in the middle, on each level up",
        block_counts,
        scope=ARCHITECTURE,
    ),
    Option("init_type", "xavier", "how weights are initialized", choices=INIT_TYPES),
    Option("init_gain", 0.02, "scale of the initial weights (standard deviation for normal)", above=0),
)

GENERATOR_OPTIONS = ("netG", "ngf", "normG", "input_nc", "output_nc", "no_dropout", "no_antialias", "no_antialias_up",
                     "residual", "nafnet_blocks")  # fmt: skip
"""What a generator is built from; see ``models.base_model.generator_from``."""

DATA_OPTIONS: tuple[Option, ...] = (
    Option("dataset_mode", "unaligned", "how the images are found and paired", scope=DATASET),
    Option("direction", "AtoB", "AtoB or BtoA: which domain is translated", choices=DIRECTIONS, scope=ARCHITECTURE),
    Option("preprocess", "resize_and_crop", "what happens to an image after reading", choices=PREPROCESS, scope=IMAGES),
    Option("load_size", 286, "pixels to which images are resized first", minimum=1, maximum=MAX_SIDE, scope=IMAGES),
    Option("crop_size", 256, "pixels of the square that is then cut out", minimum=1, maximum=MAX_SIDE, scope=IMAGES),
    Option("no_flip", False, "no random mirroring left-right", scope=IMAGES),
    Option("batch_size", 1, "images of each domain in one step, of all processes together", minimum=1),
    Option("serial_batches", False, "take images in the order of their names instead of at random", scope=IMAGES),
    Option("max_dataset_size", None, "most images per stream; inf = all", count_or_all, minimum=1, scope=IMAGES),
    Option(
        "num_threads",
        4,
        "processes that read images; 0 = in the main process",
        minimum=0,
        maximum=MAX_WORKERS,
        scope=MACHINE,
    ),
    Option("skip_bad", False, "continue without unreadable images instead of stopping"),
)

BASE_GROUPS: Groups = (("paths and run", RUN_OPTIONS), ("networks", NETWORK_OPTIONS), ("data", DATA_OPTIONS))
TRAINING_OPTIONS: tuple[Option, ...] = (
    Option("phase", "train", "which images: train reads trainA and trainB", label, scope=IMAGES),
    Option(
        "jitter_exposure",
        0.0,
        "random exposure: up to this many stops brighter or darker",
        minimum=0,
        maximum=4,
        scope=IMAGES,
    ),
    Option("n_epochs", 200, "epochs at the initial learning rate", minimum=0),
    Option("n_epochs_decay", 200, "epochs after them; --lr_policy linear lowers it to zero meanwhile", minimum=0),
    Option("lr", 2e-4, "initial learning rate of Adam", above=0),
    Option("beta1", 0.5, "Adam's decay of the gradient's mean", decay_rate),
    Option("beta2", 0.999, "Adam's decay of the gradient's square", decay_rate),
    Option("lr_policy", "linear", "how the learning rate falls", choices=LR_POLICIES),
    Option("lr_decay_iters", 50, "epochs between the falls of --lr_policy step", minimum=1),
    Option("gan_mode", "lsgan", "adversarial loss", choices=GAN_MODES),
    Option("pool_size", 50, "generated images kept to show to the discriminator again; 0 = none", minimum=0),
    Option("save_latest_freq", 5000, "images between two savings of the latest checkpoint", minimum=1, scope=OUTPUT),
    Option("save_epoch_freq", 5, "epochs between two numbered checkpoints that are kept", minimum=1, scope=OUTPUT),
    Option("save_by_iter", False, "keep every --save_latest_freq checkpoint, named by its image count", scope=OUTPUT),
    Option("keep", 0, "how many numbered checkpoints stay, the newest ones; 0 = all", minimum=0, scope=OUTPUT),
    Option("init_from", None, "start with networks of a run (name or folder), a file (.pth), or derain, which ships"),
    Option("recipe", None, "YAML file of several stages, trained one after another", scope=CALL),
    Option("continue_train", False, "continue this run from its last state, with its own options", scope=CALL),
    Option(
        "epoch_count",
        1,
        "number of the first epoch; only for weights without a saved training state",
        minimum=1,
        scope=CALL,
    ),
)

ENGINE_OPTIONS: tuple[Option, ...] = (
    Option("ema", 0.0, "decay of averaged networks, which are then what is saved and validated; 0 = none", decay_rate),
    Option("warmup_D", 0, "train only the discriminators for the first N images; for --residual", minimum=0),
    Option("n_critic", 1, "discriminator updates per generator update; 5 is usual with wgangp", minimum=1),
    Option("accumulate", 1, "split each batch into N micro-batches for one update; saves memory", minimum=1),
    Option("clip_grad", 0.0, "largest norm of the gradient of an update; 0 = as it is", minimum=0),
    Option(
        "compile",
        "off",
        "torch.compile for the networks, or (kernels, on CPUs) for sums in their layers; auto: what pays",
        choices=COMPILE_MODES,
    ),
    Option("cuda_graphs", "off", "record the whole step once and replay it; auto: where possible", choices=GRAPH_MODES),
    Option("channels_last", False, "channels last in memory: for GPUs in bf16; slower on CPUs"),
)

SAFETY_OPTIONS: tuple[Option, ...] = (
    Option(
        "time_limit",
        None,
        "hours, or H:MM, after which to have saved and stopped, with exit code 75",
        duration,
        scope=OUTPUT,
    ),
    Option("on_nan", STOP, "at a loss that is NaN or infinite: stop, or skip the update", choices=ON_NAN),
)

VALIDATION_OPTIONS: tuple[Option, ...] = (
    Option(
        "val_freq",
        None,
        f"epochs between two validations, 0 = none; if not given: {DEFAULT_EVERY} where there are pairs to validate on",
        int,
        minimum=0,
    ),
    Option("val_phase", DEFAULT_VAL_PHASE, "which pairs: val compares with valA and valB, as test.py does", label),
    Option("val_protocol", "y", "PSNR and SSIM of validations: as --protocol of test.py", choices=tuple(PROTOCOLS)),
)

CACHE_OPTIONS: tuple[Option, ...] = (
    Option(
        "cache", "ram", "keep decoded images for the next epochs: in memory or on disk", choices=CACHES, scope=MACHINE
    ),
    Option(
        "cache_gb", None, "room for them, in GB; if not given: half of the free memory", float, above=0, scope=MACHINE
    ),
    Option(
        "cache_dir", None, "folder of --cache disk; the system's folder for temporary files if not given", scope=MACHINE
    ),
)

DISPLAY_OPTIONS: tuple[Option, ...] = (
    Option("print_freq", 100, "images between two lines of losses", minimum=1, scope=OUTPUT),
    Option("display_freq", 400, "images between two pictures in Visdom", minimum=1, scope=OUTPUT),
    Option("display_ncols", 4, "pictures in a row in Visdom; 0 = each in a window of its own", minimum=0, scope=OUTPUT),
    Option("display_id", 1, "0 = no Visdom", scope=OUTPUT),
    Option("display_server", "http://localhost", "address of the Visdom server", scope=OUTPUT),
    Option("display_port", 8097, "port of the Visdom server", port_number, scope=OUTPUT),
    Option("display_env", None, "Visdom environment; the run's name if not given", scope=OUTPUT),
    Option("update_html_freq", 1000, "images between two updates of the training page", minimum=1, scope=OUTPUT),
    Option("no_html", False, "no training page", scope=OUTPUT),
    Option("trackers", (), "further trackers, separated by commas: tensorboard, wandb", tracker_names, scope=OUTPUT),
)

TRAIN_GROUPS: Groups = (
    ("training", TRAINING_OPTIONS),
    ("steps", ENGINE_OPTIONS),
    ("stopping", SAFETY_OPTIONS),
    ("decoded images", CACHE_OPTIONS),
    ("validation", VALIDATION_OPTIONS),
    ("display", DISPLAY_OPTIONS),
)
TEST_OPTIONS: tuple[Option, ...] = (
    Option("phase", "test", "which images: test reads testA and testB, val reads valA and valB", label, scope=IMAGES),
    Option("results_dir", "./results", "where pictures, tables and the page are written", scope=CALL),
    Option("num_test", None, "maximum number of images; inf = all", count_or_all, minimum=1, scope=IMAGES),
    Option("eval", True, "networks in evaluation mode; '--eval false' keeps dropout and batch statistics"),
    Option(
        "protocol",
        "y",
        "what PSNR and SSIM are: on luma, on RGB, or as in a published script",
        choices=tuple(PROTOCOLS),
        scope=IMAGES,
    ),
    Option("eval_pairs", "auto", "compare with domain B; auto = where file names match", choices=PAIRING, scope=IMAGES),
)

DERAIN_OPTIONS: tuple[Option, ...] = (
    Option(
        "input",
        None,
        "just derain this image, folder of images (with sub-folders) or video; no --dataroot needed",
        scope=CALL,
    ),
    Option(
        "output",
        None,
        "where the results of --input go, under their own names; not set: results_dir, with a page",
        scope=CALL,
    ),
    Option(
        "checkpoint",
        None,
        "weights: a run's name or folder, or a network's file (.pth); not set: those of --name",
        scope=CALL,
    ),
    Option(
        "work_size",
        0,
        "shorter side at which larger pictures of --input are derained, with the change enlarged; 0 = full size",
        scope=Scope.INFERENCE,
        minimum=0,
    ),
    Option("strength", 1.0, "how much of the change is applied; 1 = all", minimum=0),
    Option("self_ensemble", False, "mean over eight ways to turn and mirror an image; takes eight times as long"),
    Option("tile", 0, "side of the tiles in which larger images are computed; 0 = only if memory runs out", minimum=0),
    Option("tile_overlap", 64, "pixels that neighboring tiles share and blend over", minimum=0),
    Option("amp", False, "the same as --precision auto: bf16 where it is clearly faster"),
)

TEST_GROUPS: Groups = (("testing", TEST_OPTIONS), ("applying the model to pictures", DERAIN_OPTIONS))

TEST_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"preprocess": "none", "no_flip": True, "batch_size": 1, "serial_batches": True, "max_dataset_size": None}
)
"""Whole images, each once and in order: these win over what a model or dataset prefers for its training."""


@dataclass(frozen=True)
class Program:
    """An entry point's name, options and defaults; ``defaults`` win over those of a model or dataset."""

    name: str
    groups: Groups
    trains: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> tuple[Option, ...]:
        """All options but the model's and the dataset's."""
        return tuple(option for _, options in self.groups for option in options)

    def option(self, name: str) -> Option:
        """The option of this name."""
        return next(option for option in self.options if option.name == name)

    def inherits(self, option: Option) -> bool:
        """Whether the value in a run's options file is the default for this program.

        Plugins above all are not inherited: a run's folder may come from someone else, and its options file must not
        decide which code is executed.
        """
        if self.trains:
            return option.scope not in (Scope.CALL, Scope.RUN)
        return option.scope in (Scope.ARCHITECTURE, Scope.DATASET, Scope.INFERENCE)


TRAIN = Program("train.py", (*BASE_GROUPS, *TRAIN_GROUPS), trains=True)
TEST = Program("test.py", (*BASE_GROUPS, *TEST_GROUPS), trains=False, defaults=TEST_DEFAULTS)
PROGRAMS = (TRAIN, TEST)


class Declares(Protocol):
    """What a model's and a dataset's class tell about their options."""

    options: tuple[Option, ...]

    def defaults(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that it changes, given the values chosen for its own options."""


def registries() -> dict[str, Registry[Any]]:
    """The registry that each of the flags ``--model`` and ``--dataset_mode`` chooses from."""
    return {"model": models.MODELS, "dataset_mode": data.DATASETS}


def registered(flag: str, name: str) -> tuple[str, Declares]:
    """The declared spelling of ``name``, and the class of that name; :class:`UserError` if there is none."""
    registry = registries()[flag]
    spelled = {known.lower(): known for known in registry.names()}.get(name.lower(), name)
    return spelled, registry.get(spelled)


def options_of(flag: str, name: Any) -> tuple[Option, ...]:
    """The options of a model or dataset, or none if it is unknown or cannot be imported here."""
    try:
        return tuple(registered(flag, str(name))[1].options)
    except (UserError, ImportError):
        return ()


def elsewhere(name: str, program: Program) -> str | None:
    """Whose option ``name`` is, if not ``program``'s own: in words that follow "'name'", or None if no one's."""
    for flag, registry in registries().items():
        owners = [owner for owner in registry.names() if name in {option.name for option in options_of(flag, owner)}]
        if owners:
            return f"belongs to --{flag} {' and '.join(owners)}; choose that or leave it out"
    for other in PROGRAMS:
        if other is not program and name in {option.name for option in other.options}:
            return f"is an option of {other.name}, not of {program.name}; leave it out"
    return None


def unknown_option(name: str, where: str, program: Program, known: Iterable[str]) -> UserError:
    """Explain an option that is not among ``known``: whose it is, or what may have been meant.

    ``where`` says where it stands, e.g. ``"--lr"`` or ``"'lr' in my.yaml"``.
    """
    known = set(known)
    name = name.replace("-", "_")
    owner = None if name in known else elsewhere(name, program)
    if owner:
        return UserError(f"{where}: {owner}.")
    hint = did_you_mean(name, known)
    return UserError(f"{where}: there is no such option{hint}; {program.name} --help lists them.")
