"""Count the floating-point operations of one CCLGAN training step: python scripts/count_flops.py [-- train flags]

Nothing is computed and no weights are needed: PyTorch's counter runs over the model's own code with fake tensors, which
have shapes and no content. It counts convolutions and matrix products (2 per multiply-add), not normalization,
activation or resizing. Next to our step stands the naive implementation: the same losses, but LCL encodes its keys and
queries anew, inter-CCL takes its features apart from the adversarial pass, and intra-CCL embeds four images per domain.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from models.base_model import Model
from models.cclgan_model import CCLGANModel, TwoBranches
from models.losses import IntraCycleContrast
from models.networks import PatchSampler
from models.networks.semantic import SemanticEncoder, create_semantic_encoder, image_tower
from options import Options, parse_train
from scripts._benchmark.naive import NaiveCCLGAN
from util.command_line import CommandLine
from util.errors import entry_point
from util.kernels import accelerate

GIGA = 1e9
Batch = dict[str, Tensor]
Cost = tuple[int, int]
"""FLOPs of the forward and of the backward pass."""
T = TypeVar("T")
M = TypeVar("M", bound=CCLGANModel)
DISCRIMINATORS = "discriminators, own phase"


def counted(function: Callable[[], T]) -> tuple[T, int]:
    """What ``function`` returns, and the FLOPs it took."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    return result, counter.get_total_flops()


def count(opt: Options) -> tuple[dict[str, Cost], Cost, int]:
    """(cost of each component of a step, cost of the naive step, one image's forward pass through a generator)."""
    shape = (opt.batch_size, opt.input_nc, opt.crop_size, opt.crop_size)
    model, naive = weightless_model(opt, CCLGANModel), weightless_model(opt, NaiveCCLGAN)
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = make_fake(model, shape)
        one = counted(lambda: model.nets["G_A"](batch["A"][:1]))[1]
        return step_costs(model, batch), naive_step_cost(naive, make_fake(naive, shape)), one


def weightless_model(opt: Options, kind: type[M]) -> M:
    """The model that ``opt`` describes on the meta device; its semantic encoder needs no weights."""
    with torch.device("meta"):
        model = kind(without_encoder(opt), training=True)
    attach_encoder(model, opt, "meta")
    return model


def without_encoder(opt: Options) -> Options:
    """The same options with intra-CCL off, so that no pretrained weights are needed to build the model."""
    bare = copy.copy(opt)
    if "lambda_intra" in vars(opt):
        bare.lambda_intra = 0.0
    return bare


def attach_encoder(model: Model, opt: Options, device: str) -> None:
    """Give a model that was built :func:`without_encoder` its intra-CCL back, with CLIP's weights random."""
    if isinstance(model, CCLGANModel) and opt.lambda_intra > 0:
        model.lambda_intra = opt.lambda_intra
        model.intra = IntraCycleContrast(opt.intra_beta, opt.intra_negatives)
        model.frozen["phi"] = _encoder(opt, device)


def make_fake(model: CCLGANModel, shape: tuple[int, int, int, int]) -> Batch:
    """Make the model's tensors fake, and a batch of this shape; to be called inside a ``FakeTensorMode``."""
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not see into the fused attention layer
    for network in (*model.nets.values(), *model.frozen.values()):
        network.to_empty(device="cpu")
    accelerate(model.nets.values(), torch.device("cpu"))  # counted is what a CPU computes
    return {"A": torch.empty(shape), "B": torch.empty(shape)}


def _encoder(opt: Options, device: str) -> SemanticEncoder:
    if opt.semantic_encoder != "clip":
        return create_semantic_encoder(opt.semantic_encoder, weights_file=opt.semantic_weights)
    import open_clip

    with torch.device(device):
        clip: Any = open_clip.create_model(opt.clip_model, pretrained=None, device=device)
        return image_tower(clip, open_clip.get_model_preprocess_cfg(clip), opt.semantic_size)


def step_costs(model: CCLGANModel, batch: Batch) -> dict[str, Cost]:
    """Cost of each component of one step, generator phase and discriminator phase."""
    _learn(model, "all")
    passed, forward = counted(lambda: model.forward(batch))  # type: ignore[arg-type]
    _learn(model, "G")
    none = (0, 0)
    lcl = _cost(lambda: model.lcl_loss(_leaves(passed))) if model.lcl_taps else none
    intra = _cost(lambda: model.intra_loss(_leaves(passed))) if model.lambda_intra else none
    behind = _cost(lambda: _sum(model.generator_losses(_leaves(passed))))
    heads: dict[str, Any] = {name: model.nets[name] for name in ("P_A", "P_B") if name in model.nets}
    model.nets.update({name: PatchSampler((), mlp=False) for name in heads})
    without_heads = _cost(lambda: _sum(model.generator_losses(_leaves(passed))))
    model.nets.update(heads)
    whole = _cost(lambda: _sum(model.generator_losses(passed)))
    _learn(model, "D")
    return {
        "generators": (forward, whole[1] - behind[1]),
        "LCL: heads F, patch products": lcl,
        "intra-CCL: semantic encoder": intra,
        "inter-CCL: heads P": _minus(behind, without_heads),
        "discriminators, generator phase": _minus(_minus(without_heads, lcl), intra),
        DISCRIMINATORS: _cost(lambda: _sum(model.discriminator_losses(passed))),
    }


def naive_step_cost(model: NaiveCCLGAN, batch: Batch) -> Cost:
    """Cost of a step of the naive implementation."""
    _learn(model, "G")
    passed, forward = counted(lambda: model.forward(batch))  # type: ignore[arg-type]
    generators = _cost(lambda: _sum(model.generator_losses(passed)))
    _learn(model, "D")
    discriminators = _cost(lambda: _sum(model.discriminator_losses(passed)))
    return forward + generators[0] + discriminators[0], generators[1] + discriminators[1]


def _learn(model: CCLGANModel, phase: str) -> None:
    """Let the networks of one phase, or all, take gradients, as the engine does."""
    trained = next((each.trains for each in model.phases if each.name == phase), tuple(model.nets))
    for name, network in model.nets.items():
        network.requires_grad_(name in trained)


def _leaves(passed: TwoBranches) -> TwoBranches:
    """The same tensors cut off from the generators that made them."""

    def cut(value: Any) -> Any:
        if isinstance(value, list):
            return [cut(item) for item in value]
        return value if value is None else value.detach().requires_grad_(value.requires_grad)

    fields = dataclasses.fields(passed)
    return dataclasses.replace(passed, **{field.name: cut(getattr(passed, field.name)) for field in fields})


def _sum(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _cost(function: Callable[[], Tensor]) -> Cost:
    loss, forward = counted(function)
    return forward, counted(loss.backward)[1]


def _minus(a: Cost, b: Cost) -> Cost:
    return a[0] - b[0], a[1] - b[1]


def markdown(costs: Mapping[str, Cost]) -> str:
    """The costs as a Markdown table in GFLOP."""
    lines = ["| component | forward | backward | sum |", "|---|---:|---:|---:|"]
    for name, (forward, backward) in costs.items():
        numbers = " | ".join(f"{value / GIGA:.2f}" for value in (forward, backward, forward + backward))
        lines.append(f"| {name} | {numbers} |")
    return "\n".join(lines)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, count, print."""
    parser = CommandLine(description=__doc__)
    parser.add_argument(
        "flags", nargs="*", metavar="-- flags", help="of CCLGAN's training, e.g. -- --lambda_identity 0"
    )
    flags = parser.parse_args(argv).flags
    logging.basicConfig(level=logging.ERROR)  # open_clip warns of an encoder without weights, which is what is wanted
    opt = parse_train(["--dataroot", "none", *flags, "--model", "cclgan"])
    costs, naive, one = count(opt)
    whole = sum(cost[0] for cost in costs.values()), sum(cost[1] for cost in costs.values())
    print(f"GFLOP of one step: batch {opt.batch_size}, crop {opt.crop_size}, ngf {opt.ngf}, ndf {opt.ndf}\n")
    print(markdown({**costs, "whole step": whole, "naive implementation": naive}))
    passes = costs["generators"][0] / one
    print(f"\nThe generators' forward is {passes:g} passes of one image, {one / GIGA:.2f} GFLOP each.")


if __name__ == "__main__":
    sys.exit(main())
