"""Networks: plain PyTorch modules with explicit arguments, one family a file."""

from models.networks.factory import (
    DISCRIMINATORS,
    GENERATORS,
    SAMPLERS,
    Discriminator,
    create_discriminator,
    create_generator,
    create_sampler,
    describe_state,
    generator_options,
)
from models.networks.generator import Generator
from models.networks.patch_sampler import PatchSampler, sample_locations

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "SAMPLERS",
    "Discriminator",
    "Generator",
    "PatchSampler",
    "create_discriminator",
    "create_generator",
    "create_sampler",
    "describe_state",
    "generator_options",
    "sample_locations",
]
