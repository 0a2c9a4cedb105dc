"""The methods. Add one by registering its class here, or from outside with ``--plugin``."""

from __future__ import annotations

from typing import Any

from models.base_model import Model
from util.registry import Registry

MODELS: Registry[type[Model]] = Registry(
    "model",
    "--model",
    {
        "cclgan": "models.cclgan_model:CCLGANModel",
        "csud": "models.csud_model:CSUDModel",
        "cut": "models.cut_model:CUTModel",
        "cycle_gan": "models.cycle_gan_model:CycleGANModel",
        "dcdgan": "models.dcdgan_model:DCDGANModel",
        "ddn": "models.ddn_model:DDNModel",
        "derain_cyclegan": "models.derain_cyclegan_model:DerainCycleGANModel",
        "jorder_e": "models.jorder_e_model:JorderEModel",
        "jrgr": "models.jrgr_model:JRGRModel",
        "nlcl": "models.nlcl_model:NLCLModel",
        "rescan": "models.rescan_model:RESCANModel",
        "restoration": "models.restoration_model:RestorationModel",
        "ssir": "models.ssir_model:SSIRModel",
        "syn2real": "models.syn2real_model:Syn2RealModel",
        "udgnet": "models.udgnet_model:UDGNetModel",
    },
)


def create_model(opt: Any, *, training: bool) -> Model:
    """The model that ``--model`` names, on the CPU; for testing only the networks that it needs."""
    return MODELS.get(opt.model)(opt, training=training)  # type: ignore[call-arg]
