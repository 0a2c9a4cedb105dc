"""Options shared by training and testing. The chosen model and dataset add their own."""

from __future__ import annotations

from data.transforms import PREPROCESS
from models.networks import DISCRIMINATORS, GENERATORS
from models.networks.init import INIT_TYPES
from models.networks.norm import NORMS
from options.types import count_or_all, device_ids, label, name_list
from util.engine.precision import PRECISIONS
from util.option import Option

Groups = tuple[tuple[str, tuple[Option, ...]], ...]
"""Options under the headings that ``--help`` shows."""

DIRECTIONS = ("AtoB", "BtoA")
MAX_SEED = 2**31 - 1  # what every random generator accepts
MAX_WORKERS = 1024
MAX_LAYERS = 16  # halvings: more than the largest side has
MAX_SIDE = 65535  # pixels, as in JPEG

RUN_OPTIONS: tuple[Option, ...] = (
    Option("dataroot", None, "folder of the images (trainA, trainB, testA, ...); may come from the run"),
    Option("name", "experiment_name", "the run's name: its folder inside --checkpoints_dir"),
    Option("suffix", "", "appended to the name, filled in with options, e.g. {model}_{netG}_size{load_size}"),
    Option("checkpoints_dir", "./checkpoints", "where the runs are kept"),
    Option("config", None, "YAML file of options; the command line overrides it"),
    Option("plugin", (), "your models or datasets: .py files or module names, with commas or repeated", name_list),
    Option("model", "cclgan", "the method", architecture=True),
    Option("epoch", "latest", "which checkpoint to load: latest, an epoch's number, or best_psnr, best_ssim, …", label),
    Option("gpu_ids", "auto", "a GPU's number, -1 for the CPU, auto: GPU 0 if there is one", device_ids),
    Option("precision", "fp32", "arithmetic; auto: bf16 where clearly faster, else fp32", choices=PRECISIONS),
    Option("seed", 0, "start of every random number: the same seed gives the same run", minimum=0, maximum=MAX_SEED),
    Option("verbose", False, "say more"),
)

NETWORK_OPTIONS: tuple[Option, ...] = (
    Option("input_nc", 3, "channels of the source's images: 3 colour, 1 grey", architecture=True, minimum=1),
    Option("output_nc", 3, "channels of the target's images: 3 colour, 1 grey", architecture=True, minimum=1),
    Option("netG", "resnet_9blocks", "generator", choices=GENERATORS, architecture=True),
    Option("netD", "basic", "discriminator; basic is the 70x70 PatchGAN", choices=DISCRIMINATORS, architecture=True),
    Option("ngf", 64, "channels of the generator's first layer", architecture=True, minimum=1),
    Option("ndf", 64, "channels of the discriminator's first layer", architecture=True, minimum=1),
    Option("n_layers_D", 3, "strided layers of --netD n_layers", architecture=True, minimum=1, maximum=MAX_LAYERS),
    Option("normG", "instance", "normalisation in the generator", choices=NORMS, architecture=True),
    Option("normD", "instance", "normalisation in the discriminator", choices=NORMS, architecture=True),
    Option("norm", None, "sets --normG and --normD together", choices=NORMS),
    Option("no_dropout", True, "generator without dropout; '--no_dropout false' turns dropout on", architecture=True),
    Option("no_antialias", False, "plain strided convolutions instead of blurred downsampling", architecture=True),
    Option("no_antialias_up", False, "transposed convolutions instead of blurred upsampling", architecture=True),
    Option("residual", False, "the generator predicts a change: output = input + network(input)", architecture=True),
    Option("init_type", "xavier", "how weights are initialised", choices=INIT_TYPES),
    Option("init_gain", 0.02, "scale of the initial weights (standard deviation for normal)", above=0),
)

DATA_OPTIONS: tuple[Option, ...] = (
    Option("dataset_mode", "unaligned", "how the images are found and paired"),
    Option("direction", "AtoB", "AtoB or BtoA: which domain is translated", choices=DIRECTIONS, architecture=True),
    Option("preprocess", "resize_and_crop", "what happens to an image after reading", choices=PREPROCESS),
    Option("load_size", 286, "pixels to which images are resized first", minimum=1, maximum=MAX_SIDE),
    Option("crop_size", 256, "pixels of the square that is then cut out", minimum=1, maximum=MAX_SIDE),
    Option("no_flip", False, "no random mirroring left-right"),
    Option("batch_size", 1, "images of each domain in one step, of all processes together", minimum=1),
    Option("serial_batches", False, "take images in the order of their names instead of at random"),
    Option("max_dataset_size", None, "at most so many images per domain; inf = all", count_or_all, minimum=1),
    Option("num_threads", 4, "processes that read images; 0 = in the main process", minimum=0, maximum=MAX_WORKERS),
    Option("skip_bad", False, "continue without unreadable images instead of stopping"),
)

BASE_GROUPS: Groups = (("paths and run", RUN_OPTIONS), ("networks", NETWORK_OPTIONS), ("data", DATA_OPTIONS))
BASE_OPTIONS: tuple[Option, ...] = (*RUN_OPTIONS, *NETWORK_OPTIONS, *DATA_OPTIONS)
