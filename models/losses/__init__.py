"""Losses: pure modules, shaped by their inputs alone, one a file, each with its equation."""

from models.losses.gan import GAN_MODES, GANLoss
from models.losses.inter_cycle import InterCycleContrast
from models.losses.intra_cycle import IntraCycleContrast
from models.losses.patch_nce import PatchNCELoss
from models.losses.perceptual import PerceptualLoss

__all__ = ["GAN_MODES", "GANLoss", "InterCycleContrast", "IntraCycleContrast", "PatchNCELoss", "PerceptualLoss"]
