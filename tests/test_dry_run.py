"""Training steps on a GPU that is not there; see tests/dry_run.py for what that shows and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import MODELS
from models.losses import GANLoss
from models.networks.semantic import SemanticEncoder
from tests.conftest import at
from tests.dry_run import GPU, HostWaits, backward, build, fake_gpu, first_phases, make_batch, make_stepper

PRECISIONS = ("bf16", *(pytest.param(each, marks=pytest.mark.heavy) for each in ("fp32", "fp16")))
VARIANTS = [
    ("cclgan", "--lambda_exchange", "1", "--exchange_veil", "0.5", "--inter_updates_D", "--gan_mode", "wgangp"),
    ("cut", "--CUT_mode", "fastcut", "--pool_size", "2", "--normG", "batch"),
    ("cycle_gan", "--gan_mode", "hinge", "--netD", "pixel", "--netG", "resunet"),
    ("restoration", "--lambda_SSIM", "1", "--lambda_gray", "1", "--charbonnier", "0.001", "--clean_share", "0.1"),
]
UNFUSED = {"csud": 2, "ddn": 1, "derain_cyclegan": 2, "jorder_e": 1, "syn2real": 1, "udgnet": 1}
"""Updates a step by optimizers that are not fused; in fp16 GradScaler reads whether to leave one out."""
NEED_CONTENT = {"nlcl": "the host draws where it searches", "ssir": "its mixture begins on the CPU"}
"""Methods whose steps fake tensors cannot take, and why; a GPU can, but no graph of it."""
MODELS_WITHOUT = [name for name in MODELS.names() if name not in NEED_CONTENT]
SETTINGS: list[dict[str, Any]] = [{"ema": 0.99, "clip_grad": 1.0, "channels_last": True}, {"accumulate": 2}]


@pytest.fixture(autouse=True)
def _tiny_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of pretrained ones, whose packages take seconds to import."""

    def tiny(*_: Any, **__: Any) -> SemanticEncoder:
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return SemanticEncoder(backbone, 32, (0.5,) * 3, (0.5,) * 3)

    monkeypatch.setattr("models.cclgan_model.create_semantic_encoder", tiny)


def step(model: str, *flags: str, precision: str = "bf16", capturing: bool = False, **settings: Any) -> HostWaits:
    """What the host waited for in a step whose results are as they should be."""
    built = build(model, *flags)
    with fake_gpu(capturing=capturing) as host:
        stepper = make_stepper(built, precision, **settings)
        host.waits.clear()  # what happens once, at the beginning, may take its time
        result = stepper.step(make_batch(built), at(0), want_visuals=True)
    for name, loss in {**result.losses, "sum": result.generator_loss}.items():
        assert (loss.device, loss.dtype, loss.shape) == (GPU, torch.float32, ()), name
    assert all(image.is_cuda for image in result.visuals.values())
    return host


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", MODELS_WITHOUT)
def test_a_step_stays_on_the_gpu_and_never_waits_for_it(model: str, precision: str) -> None:
    host = step(model, precision=precision)
    assert host.waits == ["_local_scalar_dense"] * (UNFUSED.get(model, 0) if precision == "fp16" else 0)
    assert host.wrong_generators == []


@pytest.mark.parametrize("flags", VARIANTS, ids=lambda flags: flags[0])
def test_so_it_does_with_other_losses_and_networks(flags: tuple[str, ...]) -> None:
    host = step(*flags)
    assert (host.waits, host.wrong_generators) == ([], [])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_so_it_does_with_the_switches_of_the_engine(settings: dict[str, Any]) -> None:
    assert step("cut", **settings).waits == []


def test_a_step_that_is_recorded_waits_for_nothing() -> None:
    """Optimizers hear that a graph is being recorded."""
    assert step("cut", capturing=True, cuda_graphs=True).waits == []


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", MODELS_WITHOUT)
def test_its_backward_pass_gives_every_parameter_a_gradient_in_float32(model: str, precision: str) -> None:
    built = build(model)
    gradients = backward(built, precision)
    trained = {
        f"{name}.{key}"
        for phase in first_phases(built)
        for name in phase.trains
        for key, parameter in built.nets[name].named_parameters()
    }
    assert gradients.keys() == trained
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}


@pytest.mark.parametrize("model", NEED_CONTENT)
def test_a_method_whose_step_needs_the_host_is_found(model: str) -> None:
    with pytest.raises(RuntimeError):
        step(model)


# Planted mistakes ------------------------------------------------------------------------------------


def plant(monkeypatch: pytest.MonkeyPatch, mistake: Callable[[Tensor], Any]) -> None:
    """Let the generator's adversarial loss do ``mistake`` with the discriminator's logits."""
    fool = GANLoss.fool

    def wrong(self: GANLoss, logits: Tensor) -> Tensor:
        value = mistake(logits)
        return fool(self, logits) if value is None else value

    monkeypatch.setattr(GANLoss, "fool", wrong)


def test_a_constant_that_stayed_on_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda logits: (logits - torch.ones(logits.shape)).square().mean())
    with pytest.raises(RuntimeError, match=r"cuda:0 and cpu|two different devices"):
        step("cut")


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        (lambda logits: logits.mean() * logits.abs().max().item(), "_local_scalar_dense"),
        (lambda logits: logits.mean() if (logits > 0).any() else logits.max(), "_local_scalar_dense"),
        (lambda logits: logits.cpu().mean().cuda(), "_to_copy cuda:0 to cpu"),
        (lambda logits: (logits - torch.rand(2, 1, 1, 1).to(logits.device)).mean(), "_to_copy cpu to cuda:0"),
    ],
    ids=["item", "if", "cpu", "pageable memory"],
)
def test_a_step_that_waits_is_found(mistake: Any, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, mistake)
    assert found in step("cut", precision="fp32").waits


def test_a_generator_of_the_cpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator()
    plant(monkeypatch, lambda logits: torch.rand(2, device=logits.device, generator=generator).mean() * logits.mean())
    assert step("cut").wrong_generators == ["rand"]
