"""CCLGAN's flags and presets; docs/cclgan.md says where each number comes from."""

from __future__ import annotations

import logging
from typing import Any

from models.base_model import need_equal_channels
from models.losses.inter_cycle import INTER_POSITIVES
from models.losses.intra_cycle import INTRA_NEGATIVES
from models.losses.rain_exchange import DISTANCES
from models.networks import SAMPLERS
from models.networks.semantic import SEMANTIC_ENCODERS
from util.errors import UserError
from util.option import Option, Scope

logger = logging.getLogger(__name__)

LARGEST_SEMANTIC_SIZE = 4096  # pixels; no encoder was trained above a quarter of it
LARGEST_VEIL = 0.95  # behind a denser one there is hardly an image

PRESETS: dict[str, dict[str, Any]] = {
    # Eq. 11 with its two LCL terms and least squares, plus the identity term.
    "paper": {},
    # The authors' released settings: four LCL terms, hinge.
    "release": {"lcl_terms": 4, "gan_mode": "hinge"},
}

OPTIONS = (
    Option("preset", "paper", "paper: eq. 11 and the identity term; release: the authors' released settings",
           choices=tuple(PRESETS)),
    Option("lambda_GAN", 0.5, "weight of each generator's adversarial loss", minimum=0),
    Option("lambda_NCE", 2.0, "weight of LCL, eq. 7, as a mean over its terms", minimum=0),
    Option("lambda_intra", 0.5, "weight of intra-CCL, eq. 3 (0: no semantic encoder is loaded)", minimum=0),
    Option("lambda_inter", 1.28, "weight of inter-CCL, eq. 6, as a mean over patches", minimum=0),
    Option("lambda_identity", 0.5, "weight of the L1 identity term (0: eq. 11 as written)", minimum=0),
    Option("lambda_exchange", 0.0, "weight of rain exchange: G_A takes rain off N that it took off R before "
           "(not in the paper)", minimum=0),
    Option("exchange_veil", 0.0, "densest fog on the N of rain exchange, as a share of its light (0: none)",
           minimum=0, maximum=LARGEST_VEIL),
    Option("exchange_clear", 0.5, "share of the images of rain exchange that have no fog", minimum=0, maximum=1),
    Option("exchange_distance", "l1", "distance of rain exchange; berhu: l1 for small errors, l2 for large ones; "
           "wide_berhu: only for wide ones, else l1",
           choices=tuple(DISTANCES)),
    Option("nce_layers", "down1,down2,block1", "layers of the generators for LCL, by name or position "
           "(the default is 4,8,12 of the antialiased ResNet)", scope=Scope.ARCHITECTURE),
    Option("nce_T", 0.07, "temperature τ of LCL", above=0),
    Option("num_patches", 256, "LCL's locations per layer", minimum=1),
    Option("netF", "mlp_sample", "LCL's projection heads", choices=SAMPLERS, scope=Scope.ARCHITECTURE),
    Option("netF_nc", 256, "width of LCL's projection heads", minimum=1, scope=Scope.ARCHITECTURE),
    Option("lcl_terms", 2, "2: R→N̂ and N→R̂ (paper); 4: also N̂→R̃ and R̂→Ñ (release)", choices=(2, 4)),
    Option("intra_beta", 0.1, "β of eq. 1: weight of the generated negative", minimum=0),
    Option("intra_negatives", "both", "intra-CCL's negatives (Table 3)", choices=INTRA_NEGATIVES),
    Option("inter_gamma", 0.2, "γ of eq. 4: weight of the generated positive", minimum=0),
    Option("inter_positives", "both", "inter-CCL's positives (Table 4)", choices=INTER_POSITIVES),
    Option("inter_layers", "conv2,conv3", "layers of the discriminators for inter-CCL, by name or position "
           "(the default is 3,7 of the antialiased PatchGAN)", scope=Scope.ARCHITECTURE),
    Option("inter_patches", 256, "inter-CCL's locations per layer", minimum=1),
    Option("inter_updates_D", False, "let the discriminators learn from inter-CCL too"),
    Option("inter_nc", 256, "width of inter-CCL's projection heads", minimum=1, scope=Scope.ARCHITECTURE),
    Option("semantic_encoder", "clip", "φ of intra-CCL", choices=SEMANTIC_ENCODERS),
    Option("semantic_size", None, "side of φ's input in pixels, if not the one it was trained with", type=int,
           minimum=32, maximum=LARGEST_SEMANTIC_SIZE),
    Option("semantic_weights", None, "local weights file for --semantic_encoder vgg16", type=str),
    Option("clip_model", "ViT-B-32", "CLIP model, one of open_clip's names"),
    Option("clip_pretrained", "openai", "CLIP weights: one of open_clip's tags or a local file"),
)  # fmt: skip


def check_weights(opt: Any) -> None:
    """Raise :class:`UserError` if the weights leave nothing to train or contradict other options."""
    if not any((opt.lambda_GAN, opt.lambda_NCE, opt.lambda_intra, opt.lambda_inter, opt.lambda_identity)):
        raise UserError("all of --lambda_GAN, _NCE, _intra, _inter and _identity are 0, so nothing trains; raise one.")
    if opt.exchange_veil > 0 and opt.lambda_exchange == 0:
        logger.warning("--exchange_veil %g does nothing, as --lambda_exchange is 0", opt.exchange_veil)
    if opt.exchange_distance != "l1" and opt.lambda_exchange == 0:
        logger.warning("--exchange_distance %s does nothing, as --lambda_exchange is 0", opt.exchange_distance)
    for flag in ("--lambda_inter", "--lambda_identity", "--lambda_exchange"):
        if getattr(opt, flag.removeprefix("--")) > 0:
            need_equal_channels(opt, flag, f"{flag} 0")
    if opt.lambda_intra > 0 and opt.intra_negatives == "fake" and opt.intra_beta == 0:
        raise UserError("--intra_beta 0 leaves --intra_negatives fake without a negative; raise it.")
    if opt.lambda_inter > 0 and opt.inter_positives == "fake" and opt.inter_gamma == 0:
        raise UserError("--inter_gamma 0 leaves --inter_positives fake without a positive; raise it.")
