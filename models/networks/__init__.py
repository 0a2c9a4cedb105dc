"""Networks: pure modules with explicit arguments, one family a file."""

from models.networks.factory import (
    DISCRIMINATORS,
    GENERATORS,
    SAMPLERS,
    Discriminator,
    Generator,
    create_discriminator,
    create_generator,
    create_sampler,
)
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
    "sample_locations",
]
