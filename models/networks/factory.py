"""Networks by the names that ``--netG``, ``--netD`` and ``--netF`` have in CycleGAN and CUT."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.networks.init import initialize
from models.networks.patch_sampler import PatchSampler
from models.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from models.networks.resnet import ResnetGenerator
from models.networks.resunet import ResidualUnetGenerator
from models.networks.tapped import tap_widths
from models.networks.unet import UnetGenerator

RESNET_BLOCKS = {"resnet_9blocks": 9, "resnet_6blocks": 6}
UNET_LEVELS = {"unet_256": 8, "unet_128": 7}
RESUNET_BLOCKS = {"resunet": 4, "resunet_histogram": 4}
GENERATORS = (*RESNET_BLOCKS, *UNET_LEVELS, *RESUNET_BLOCKS)
DISCRIMINATORS = ("basic", "n_layers", "pixel")
SAMPLERS = ("mlp_sample", "sample")
BASIC_LAYERS = 3  # the 70×70 PatchGAN

Generator = ResnetGenerator | UnetGenerator | ResidualUnetGenerator
Discriminator = PatchDiscriminator | PixelDiscriminator


def create_generator(
    name: str,
    input_nc: int,
    output_nc: int,
    ngf: int = 64,
    *,
    norm: str = "instance",
    dropout: bool = False,
    antialias_down: bool = True,
    antialias_up: bool = True,
    residual: bool = False,
    init_type: str = "xavier",
    init_gain: float = 0.02,
) -> Generator:
    """An initialised generator; the arguments are those of its class. Raises ValueError for another name."""
    generator: Generator
    if name in RESNET_BLOCKS:
        generator = ResnetGenerator(
            input_nc,
            output_nc,
            ngf,
            RESNET_BLOCKS[name],
            norm=norm,
            dropout=dropout,
            antialias_down=antialias_down,
            antialias_up=antialias_up,
            residual=residual,
        )
    elif name in UNET_LEVELS:
        generator = UnetGenerator(
            input_nc, output_nc, ngf, UNET_LEVELS[name], norm=norm, dropout=dropout, residual=residual
        )
    elif name in RESUNET_BLOCKS:
        generator = ResidualUnetGenerator(
            input_nc,
            output_nc,
            ngf,
            RESUNET_BLOCKS[name],
            norm=norm,
            residual=residual,
            histogram=name.endswith("_histogram"),
        )
    else:
        raise ValueError(f"generator must be one of {GENERATORS}, not {name!r}")
    initialize(generator, init_type, init_gain)
    generator.start_at_identity()
    return generator


def create_discriminator(
    name: str,
    input_nc: int,
    ndf: int = 64,
    layers: int = BASIC_LAYERS,
    *,
    norm: str = "instance",
    antialias: bool = True,
    init_type: str = "xavier",
    init_gain: float = 0.02,
) -> Discriminator:
    """An initialised discriminator; ``layers`` is used by ``n_layers`` only. Raises ValueError for another name."""
    discriminator: Discriminator
    if name == "pixel":
        discriminator = PixelDiscriminator(input_nc, ndf, norm=norm)
    elif name in DISCRIMINATORS:
        depth = layers if name == "n_layers" else BASIC_LAYERS
        discriminator = PatchDiscriminator(input_nc, ndf, depth, norm=norm, antialias=antialias)
    else:
        raise ValueError(f"discriminator must be one of {DISCRIMINATORS}, not {name!r}")
    initialize(discriminator, init_type, init_gain)
    return discriminator


def create_sampler(
    name: str,
    network: nn.Module,
    taps: Sequence[str],
    channels: int,
    *,
    embedding: int = 256,
    normalize: bool = True,
    init_type: str = "xavier",
    init_gain: float = 0.02,
) -> PatchSampler:
    """Projection heads that fit the features of ``network`` at ``taps`` for images of ``channels`` channels."""
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}, not {name!r}")
    widths = tap_widths(network, taps, channels)
    sampler = PatchSampler(widths, mlp=name == "mlp_sample", embedding=embedding, normalize=normalize)
    initialize(sampler, init_type, init_gain)
    return sampler
