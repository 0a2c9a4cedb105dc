"""Options of ``train.py`` alone.

Every frequency counts images, whatever the batch size, but for those of numbered checkpoints and validations, which
count epochs.
"""

from __future__ import annotations

from data import CACHES, DEFAULT_VAL_PHASE
from models.losses import GAN_MODES
from options.base_options import Groups
from options.test_options import PROTOCOLS
from options.types import decay_rate, duration, label, port_number, tracker_names
from util.engine.compile import COMPILE_MODES
from util.engine.cuda_graphs import GRAPH_MODES
from util.engine.nonfinite import ON_NAN, STOP
from util.engine.schedule import LR_POLICIES
from util.engine.validation import DEFAULT_EVERY
from util.option import Option

TRAINING_OPTIONS: tuple[Option, ...] = (
    Option("phase", "train", "which images: train reads trainA and trainB", label),
    Option(
        "jitter_exposure", 0.0, "light each image at random, by up to so many stops more or less", minimum=0, maximum=4
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
    Option("save_latest_freq", 5000, "images between two savings of the latest checkpoint", minimum=1),
    Option("save_epoch_freq", 5, "epochs between two numbered checkpoints that are kept", minimum=1),
    Option("save_by_iter", False, "keep every --save_latest_freq checkpoint, named by its image count"),
    Option("keep", 0, "how many numbered checkpoints stay, the newest ones; 0 = all", minimum=0),
    Option("continue_train", False, "go on with this run from its last state, with its own options"),
    Option("epoch_count", 1, "number of the first epoch; only for weights without a saved training state", minimum=1),
)

ENGINE_OPTIONS: tuple[Option, ...] = (
    Option("ema", 0.0, "decay of averaged networks, which are then what is saved and validated; 0 = none", decay_rate),
    Option("warmup_D", 0, "so many images at the beginning train the discriminators alone; for --residual", minimum=0),
    Option("accumulate", 1, "compute each batch in so many pieces, which saves memory, for one update", minimum=1),
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
    Option("time_limit", None, "hours, or H:MM, after which to have saved and stopped, with exit code 75", duration),
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
    Option("val_protocol", "y", "PSNR and SSIM of validations: as --protocol of test.py", choices=PROTOCOLS),
)

CACHE_OPTIONS: tuple[Option, ...] = (
    Option("cache", "ram", "keep decoded images for the next epochs: in memory or on disk", choices=CACHES),
    Option("cache_gb", None, "room for them, in GB; if not given: half of the free memory", float, above=0),
    Option("cache_dir", None, "folder of --cache disk; the system's folder for temporary files if not given"),
)

DISPLAY_OPTIONS: tuple[Option, ...] = (
    Option("print_freq", 100, "images between two lines of losses", minimum=1),
    Option("display_freq", 400, "images between two pictures in Visdom", minimum=1),
    Option("display_ncols", 4, "pictures in a row in Visdom; 0 = each in a window of its own", minimum=0),
    Option("display_id", 1, "0 = no Visdom"),
    Option("display_server", "http://localhost", "address of the Visdom server"),
    Option("display_port", 8097, "port of the Visdom server", port_number),
    Option("display_env", None, "Visdom environment; the run's name if not given"),
    Option("update_html_freq", 1000, "images between two updates of the training page", minimum=1),
    Option("no_html", False, "no training page"),
    Option("trackers", (), "further trackers, separated by commas: tensorboard, wandb", tracker_names),
)

TRAIN_GROUPS: Groups = (
    ("training", TRAINING_OPTIONS),
    ("steps", ENGINE_OPTIONS),
    ("stopping", SAFETY_OPTIONS),
    ("decoded images", CACHE_OPTIONS),
    ("validation", VALIDATION_OPTIONS),
    ("display", DISPLAY_OPTIONS),
)
TRAIN_OPTIONS: tuple[Option, ...] = (
    *TRAINING_OPTIONS,
    *ENGINE_OPTIONS,
    *SAFETY_OPTIONS,
    *CACHE_OPTIONS,
    *VALIDATION_OPTIONS,
    *DISPLAY_OPTIONS,
)
