"""Networks by the names that ``--netG``, ``--netD`` and ``--netF`` have in CycleGAN and CUT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.ddn import DetailNetwork
from models.networks.derain_cyclegan import AttentiveGenerator, RainDetector
from models.networks.generator import Generator, State
from models.networks.jorder import JorderNet
from models.networks.nafnet import NAFNetGenerator
from models.networks.nlcl import LayerGenerator
from models.networks.passes import tap_widths
from models.networks.patch_sampler import PatchSampler
from models.networks.patchgan import PatchDiscriminator, PixelDiscriminator
from models.networks.res2unet import Res2UNet
from models.networks.rescan import RescanNetwork
from models.networks.resnet import ResnetGenerator
from models.networks.resunet import ResidualUnetGenerator
from models.networks.udgnet import LayerBranch
from models.networks.unet import UnetGenerator

GENERATOR_REGISTRY: dict[str, tuple[type[Generator], dict[str, Any]]] = {
    "resnet_9blocks": (ResnetGenerator, {"blocks": 9}),
    "resnet_6blocks": (ResnetGenerator, {"blocks": 6}),
    "unet_256": (UnetGenerator, {"levels": 8}),
    "unet_128": (UnetGenerator, {"levels": 7}),
    "resunet": (ResidualUnetGenerator, {}),
    "resunet_histogram": (ResidualUnetGenerator, {"histogram": True}),
    "nafnet": (NAFNetGenerator, {}),
}
"""``--netG`` → the family and what the name stands for; see :class:`models.networks.generator.Generator`."""
GENERATORS = tuple(GENERATOR_REGISTRY)
DISCRIMINATORS = ("basic", "n_layers", "pixel")
SAMPLERS = ("mlp_sample", "sample")
BASIC_LAYERS = 3  # the 70×70 PatchGAN
Discriminator = PatchDiscriminator | PixelDiscriminator

# As published with CycleGAN (normal 0.02) and CUT (Xavier 0.02)
_INITIALIZERS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}
INIT_TYPES = tuple(_INITIALIZERS)

# What a state dict may belong to besides the generators of the registry
_OTHERS: tuple[Any, ...] = (
    PixelDiscriminator,
    PatchSampler,
    PatchDiscriminator,
    LayerBranch,
    Res2UNet,
    JorderNet,
    RainDetector,
    AttentiveGenerator,
    DetailNetwork,
    RescanNetwork,
    LayerGenerator,
)


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
    **own: Any,
) -> Generator:
    """An initialized generator. Settings that its family has no use for change nothing.

    ``own`` are settings that one family alone knows, such as ``nafnet_blocks``.

    Raises:
        ValueError: ``name`` is not in the registry.
    """
    if name not in GENERATOR_REGISTRY:
        raise ValueError(f"generator must be one of {GENERATORS}, not {name!r}")
    family: Any  # which arguments a constructor takes is up to the family
    family, settings = GENERATOR_REGISTRY[name]
    generator: Generator = family(
        input_nc,
        output_nc,
        ngf=ngf,
        norm=norm,
        dropout=dropout,
        antialias_down=antialias_down,
        antialias_up=antialias_up,
        residual=residual,
        **own,
        **settings,
    )
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
    """An initialized discriminator; ``layers`` is used by ``n_layers`` only. Raises ValueError for another name."""
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


@torch.no_grad()
def initialize(network: nn.Module, init_type: str = "normal", gain: float = 0.02) -> nn.Module:
    """Initialize every convolution and linear layer in place and return ``network``.

    Biases become 0; batch-norm weights are drawn from N(1, gain). ``gain`` is the standard deviation for
    ``normal``, a factor for ``xavier`` and ``orthogonal``, and unused by ``kaiming``.

    Raises:
        ValueError: ``init_type`` is not one of :data:`INIT_TYPES`.
    """
    if init_type not in _INITIALIZERS:
        raise ValueError(f"init_type must be one of {INIT_TYPES}, not {init_type!r}")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            _INITIALIZERS[init_type](module.weight, gain)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, gain)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def generator_options(state: State) -> dict[str, str]:
    """Option → value of the generator that a state dict belongs to; empty if it is none of ours."""
    families = dict.fromkeys(family for family, _ in GENERATOR_REGISTRY.values())
    return next((found for family in families if (found := family.recognize(state)) is not None), {})


def describe_state(state: State) -> dict[str, str]:
    """Flag → value of the network that a state dict belongs to, to explain a mismatch; empty for an unknown one."""
    others = (kind.recognize(state) for kind in _OTHERS)
    found = generator_options(state) or next((each for each in others if each is not None), {})
    return {name if " " in name else f"--{name}": value for name, value in found.items()}
