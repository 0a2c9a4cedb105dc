"""Options of ``test.py`` alone, and the defaults that differ when testing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from options.base_options import Groups
from options.types import count_or_all, label
from util.option import Option

PROTOCOLS = ("y", "rgb", "y-matlab", "y-mprnet", "raincityscapes", "spa")
PAIRING = ("auto", "yes", "no")

TEST_OPTIONS: tuple[Option, ...] = (
    Option("phase", "test", "which images: test reads testA and testB, val reads valA and valB", label),
    Option("results_dir", "./results", "where pictures, tables and the page are written"),
    Option("num_test", None, "at most so many images; inf = all", count_or_all, minimum=1),
    Option("eval", True, "networks in evaluation mode; '--eval false' keeps dropout and batch statistics"),
    Option("protocol", "y", "what PSNR and SSIM are: on luma, on RGB, or as in a published script", choices=PROTOCOLS),
    Option("eval_pairs", "auto", "compare with domain B; auto = where file names match", choices=PAIRING),
)

DERAIN_OPTIONS: tuple[Option, ...] = (
    Option("input", None, "just derain this image, folder of images (with sub-folders) or video; no --dataroot needed"),
    Option("output", None, "where the results of --input go, under their own names; not set: results_dir, with a page"),
    Option("checkpoint", None, "weights: a run's name or folder, or a network's file (.pth); not set: those of --name"),
    Option("tile", 0, "side of the tiles in which larger images are computed; 0 = only if memory runs out", minimum=0),
    Option("tile_overlap", 64, "pixels that neighbouring tiles share and blend over", minimum=0),
    Option("amp", False, "the same as --precision auto: bf16 where it is clearly faster"),
)

TEST_GROUPS: Groups = (("testing", TEST_OPTIONS), ("applying the model to pictures", DERAIN_OPTIONS))

TEST_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"preprocess": "none", "no_flip": True, "batch_size": 1, "serial_batches": True, "max_dataset_size": None}
)
"""Whole images, each once and in order: these win over what a model or dataset prefers for its training."""
