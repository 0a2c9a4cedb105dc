"""What one CCLGAN step costs in floating-point operations, component by component, without computing anything.

PyTorch's counter runs over the model's own code with fake tensors, which have shapes and no content. It counts
convolutions and matrix products (2 per multiply-add), not normalisation, activation or resizing.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models.base_model import Model
from models.cclgan_model import CCLGANModel, TwoBranches
from models.losses import IntraCycleContrast
from models.networks import PatchSampler, sample_locations
from models.networks.semantic import SemanticEncoder, create_semantic_encoder, image_tower
from options import Options
from util.kernels import accelerate

Batch = dict[str, Tensor]
Cost = tuple[int, int]
"""FLOPs of the forward and of the backward pass."""
T = TypeVar("T")
DISCRIMINATORS = "discriminators, own phase"


def counted(function: Callable[[], T]) -> tuple[T, int]:
    """What ``function`` returns, and the FLOPs it took."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    return result, counter.get_total_flops()


def count(opt: Options) -> tuple[dict[str, Cost], Cost, int]:
    """(cost of each component of a step, cost of the usual step, one image's forward pass through a generator)."""
    model = weightless_model(opt)
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = make_fake(model, (opt.batch_size, opt.input_nc, opt.crop_size, opt.crop_size))
        one = counted(lambda: model.nets["G_A"](batch["A"][:1]))[1]
        costs = step_costs(model, batch)
        return costs, usual_step_cost(model, batch, costs[DISCRIMINATORS]), one


def weightless_model(opt: Options) -> CCLGANModel:
    """The model that ``opt`` describes on the meta device; its semantic encoder needs no weights."""
    with torch.device("meta"):
        model = CCLGANModel(without_encoder(opt), training=True)
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


class BytesMoved(TorchDispatchMode):
    """Counts the bytes of the tensors that operations read and write, each as often as it does.

    What an operation copies within itself is not seen, nor that small tensors stay in the processor's cache: this is
    the traffic of a step whose operations are not fused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        makes_view = any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)
        if not makes_view and "empty" not in func.__name__:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


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


def usual_step_cost(model: CCLGANModel, batch: Batch, discriminators: Cost) -> Cost:
    """Cost of the same losses as they are usually written, each image through each network on its own.

    ``discriminators`` is the cost of their own phase, which is the same: one real and one generated image each.
    """
    _learn(model, "G")
    generators = _cost(lambda: torch.stack(list(_usual_generator_terms(model, batch))).sum())
    return generators[0] + discriminators[0], generators[1] + discriminators[1]


def _usual_generator_terms(model: CCLGANModel, batch: Batch) -> Iterator[Tensor]:
    nets, R, N = model.nets, batch["A"], batch["B"]
    N_hat, R_hat = nets["G_A"](R), nets["G_B"](N)
    R_tilde, N_tilde = nets["G_B"](N_hat), nets["G_A"](R_hat)
    yield model.gan.fool(nets["D_A"](N_hat)) + model.gan.fool(nets["D_B"](R_hat))
    if model.lambda_identity > 0:
        yield nets["G_A"](N).mean() + nets["G_B"](R).mean()
    if model.lambda_exchange > 0:
        yield nets["G_A"](N_hat.detach()).mean()
    if model.lcl_taps:
        pairs = [("A", R, "B", N_hat), ("B", N, "A", R_hat)]
        pairs += [("B", N_hat, "A", R_tilde), ("A", R_hat, "B", N_tilde)] if model.lcl_reconstructions else []
        for source, key, target, query in pairs:
            keys = nets[f"G_{source}"].encode(key, model.lcl_taps)
            queries = nets[f"G_{target}"].encode(query, model.lcl_taps)
            where = sample_locations(keys, model.num_patches)
            embedded = zip(nets[f"F_{target}"](queries, where), nets[f"F_{source}"](keys, where), strict=True)
            yield torch.stack([model.nce(q, k.detach()) for q, k in embedded]).mean()
    if model.lambda_inter > 0:
        for domain, images in (("A", (N_hat, N_tilde, N, R)), ("B", (R_hat, R_tilde, R, N))):
            features = [nets[f"D_{domain}"].encode(image, model.inter_taps) for image in images]
            where = sample_locations(features[0], model.inter_patches)
            yield model.inter(*(nets[f"P_{domain}"](feature, where) for feature in features))
    if model.lambda_intra > 0:
        for anchor, *others in ((R_tilde, R, N, N_hat), (N_tilde, N, R, R_hat)):
            phi = model.frozen["phi"]
            yield model.intra(phi(anchor), *(phi(image.detach()) for image in others))


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
