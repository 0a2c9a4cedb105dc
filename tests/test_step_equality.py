"""Whatever is done to be faster or smaller: the same mathematics. Every switch of the engine against plain steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import create_model
from options import parse_train
from tests.conftest import SMALL_CCLGAN, SMALL_NETWORKS, at
from train import delay_generators
from util.engine.step import Stepper, StepSettings, split_batch
from util.errors import UserError

CPU = torch.device("cpu")
SIDE = 24
LEARNING_RATE = 2e-4
AS_EXACT = ("--pool_size", "0", "--num_patches", "100000", "--lambda_inter", "0", "--lambda_intra", "0")
"""No chance in a CCLGAN step (every location counts), and no loss that mixes the images of a batch."""
TERMS = {"cut": ("--num_patches", "100000"), "cycle_gan": ("--pool_size", "0"), "cclgan": AS_EXACT}


def make_stepper(
    *flags: str, model: str = "cycle_gan", batch_size: int = 1, precision: str = "fp32", **settings: Any
) -> Stepper:
    size = ["--load_size", str(SIDE), "--crop_size", str(SIDE), "--batch_size", str(batch_size)]
    small = [*SMALL_NETWORKS, *(SMALL_CCLGAN if model == "cclgan" else ())]
    opt = parse_train(["--dataroot", ".", "--model", model, *small, *size, *flags])
    torch.manual_seed(3)
    built = create_model(opt, training=True)
    built.phases = delay_generators(built, warmup_D=opt.warmup_D, n_critic=opt.n_critic)
    return Stepper(
        built,
        device=CPU,
        precision=precision,
        learning_rate=LEARNING_RATE,
        betas=(0.5, 0.999),
        seed=1,
        settings=StepSettings(**settings),
    )


def batches(count: int, size: int = 1) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(5)
    shape = (size, 3, SIDE, SIDE)
    return [{key: torch.rand(shape, generator=draw) * 2 - 1 for key in ("A", "B")} for _ in range(count)]


def curve(stepper: Stepper, data: Sequence[dict[str, Tensor]]) -> dict[str, list[float]]:
    """Losses by name, one value a step."""
    steps = [stepper.step(batch, at(number)).losses for number, batch in enumerate(data)]
    return {name: [losses[name].item() for losses in steps] for name in steps[0]}


def gradients(stepper: Stepper) -> Tensor:
    """All gradients of the last step in one vector."""
    parameters = (p for name in stepper.model.nets for p in stepper.model.nets[name].parameters())
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def weights(nets: Mapping[str, nn.Module]) -> Tensor:
    return torch.cat([p.detach().flatten() for network in nets.values() for p in network.parameters()])


def relative(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("model", ["cycle_gan", "cut", "cclgan"])
def test_a_batch_in_pieces_gives_the_gradients_and_losses_of_the_whole_batch(model: str) -> None:
    data = batches(1, size=4)
    whole, pieces = (
        make_stepper(*TERMS[model], model=model, batch_size=4, accumulate=count) for count in (1, 3)
    )  # pieces of 1, 1 and 2 images
    of_whole, of_pieces = whole.step(data[0], at(0)), pieces.step(data[0], at(0))
    assert of_whole.losses.keys() == of_pieces.losses.keys()
    for name, loss in of_whole.losses.items():
        assert of_pieces.losses[name].item() == pytest.approx(loss.item(), rel=1e-5), name
    assert of_pieces.generator_loss.item() == pytest.approx(of_whole.generator_loss.item(), rel=1e-5)
    assert relative(gradients(pieces), gradients(whole)) < 1e-5


@pytest.mark.parametrize("settings", [{"ema": 0.99}, {"clip_grad": 1e6}], ids=str)
def test_averages_and_a_limit_out_of_reach_change_no_bit_of_the_training(settings: dict[str, Any]) -> None:
    plain, other = make_stepper(), make_stepper(**settings)
    assert curve(plain, batches(5)) == curve(other, batches(5))
    assert torch.equal(gradients(plain), gradients(other))
    assert torch.equal(weights(plain.model.nets), weights(other.model.nets))


def twins(count: int) -> list[dict[str, Tensor]]:
    """Batches of two times the same image."""
    return [{key: image.repeat(2, 1, 1, 1) for key, image in batch.items()} for batch in batches(count)]


def in_float64(**settings: Any) -> Stepper:
    """In float32 the rounding of Adam alone, fused or not, grows to 1 % of a loss within 50 steps of these networks."""
    stepper = make_stepper("--pool_size", "0", batch_size=2, **settings)
    for network in stepper.model.nets.values():
        network.double()
    return stepper


def doubled(count: int) -> list[dict[str, Tensor]]:
    return [{key: image.double() for key, image in batch.items()} for batch in twins(count)]


def use_plain_adam(stepper: Stepper) -> None:
    for phase in stepper.model.phases:
        parameters = [p for name in phase.trains for p in stepper.model.nets[name].parameters()]
        adam = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.5, 0.999), foreach=False)
        stepper.optimizers[phase.name] = adam


@pytest.fixture(scope="module")
def exact_curve() -> dict[str, list[float]]:
    """50 plain steps."""
    return curve(in_float64(), doubled(50))


@pytest.mark.heavy
@pytest.mark.parametrize("switch", [{"channels_last": True}, {"accumulate": 2}, "plain Adam"], ids=str)
def test_fifty_steps_have_the_loss_curve_of_plain_steps(switch: Any, exact_curve: dict[str, list[float]]) -> None:
    stepper = in_float64(**(switch if isinstance(switch, dict) else {}))
    if switch == "plain Adam":
        use_plain_adam(stepper)
    found = curve(stepper, doubled(50))
    for name, values in exact_curve.items():
        assert found[name] == pytest.approx(values, rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("switch", [{"channels_last": True}, {"accumulate": 2}, "plain Adam"], ids=str)
def test_the_first_steps_agree_in_float32(switch: Any) -> None:
    settings = switch if isinstance(switch, dict) else {}
    plain, stepper = (make_stepper("--pool_size", "0", batch_size=2, **each) for each in ({}, settings))
    if switch == "plain Adam":
        use_plain_adam(stepper)
    data = twins(3)
    for each in (plain, stepper):
        each.step(data[0], at(0))
    assert relative(gradients(stepper), gradients(plain)) < 1e-4
    expected, found = (curve(each, data[1:]) for each in (plain, stepper))
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-4, abs=1e-4), name


@pytest.mark.heavy
def test_bf16_stays_near_fp32() -> None:
    """The stated band: over 50 steps the mean of each term within 5 %; the first gradient's cosine above 0.9."""
    first, in_bf16 = (make_stepper("--pool_size", "0", batch_size=2, precision=each) for each in ("fp32", "bf16"))
    for stepper in (first, in_bf16):
        stepper.step(twins(1)[0], at(0))
    assert torch.cosine_similarity(gradients(first), gradients(in_bf16), dim=0) > 0.9
    expected, found = (curve(stepper, twins(50)) for stepper in (first, in_bf16))
    for name, values in expected.items():
        assert sum(found[name]) == pytest.approx(sum(values), rel=0.05), name


def test_only_a_phase_that_trains_behind_the_passes_keeps_what_their_backward_pass_needs() -> None:
    stepper = make_stepper(model="cut", batch_size=2, accumulate=2)
    seen: list[bool] = []
    discriminators, generators = stepper.model.phases

    def spy(phase: Any) -> Any:
        def losses(passed: Any) -> Any:
            seen.append(passed.fake_B.requires_grad)
            return phase.losses(passed)

        return replace(phase, losses=losses)

    stepper.model.phases = (spy(discriminators), spy(generators))
    stepper.step(batches(1, size=2)[0], at(0))
    assert seen == [False, False, True, True]


def test_passes_that_are_made_again_draw_the_same_random_numbers() -> None:
    (micro_batch, _) = split_batch({"A": torch.zeros(2, 1)}, 2)
    torch.manual_seed(8)
    with micro_batch.random_numbers(CPU):
        first = torch.rand(3)
    between = torch.rand(3)
    with micro_batch.random_numbers(CPU):
        again = torch.rand(3)
    after = torch.rand(3)
    torch.manual_seed(8)
    assert torch.equal(again, first)
    assert torch.equal(torch.rand(9), torch.cat([first, between, after]))


def test_a_batch_has_no_more_pieces_than_images_and_its_other_entries_go_along() -> None:
    batch = {"A": torch.arange(5.0), "A_paths": list("abcde"), "note": "whole"}
    pieces = split_batch(batch, 3)
    assert [piece.batch["A_paths"] for piece in pieces] == [["a"], ["b", "c"], ["d", "e"]]
    assert [piece.batch["A"].tolist() for piece in pieces] == [[0], [1, 2], [3, 4]]
    assert [piece.share for piece in pieces] == [0.2, 0.4, 0.4]
    assert all(piece.batch["note"] == "whole" for piece in pieces)
    assert len(split_batch(batch, 9)) == 5
    assert split_batch(batch, 1)[0].batch is batch


def test_clipping_bounds_the_norm_of_a_phases_gradient() -> None:
    free, clipped = (make_stepper("--pool_size", "0", clip_grad=limit) for limit in (0.0, 0.01))
    for stepper in (free, clipped):
        stepper.step(batches(1)[0], at(0))
    for phase in free.model.phases:
        norms = []
        for stepper in (free, clipped):
            grads = [p.grad for name in phase.trains for p in stepper.model.nets[name].parameters()]
            norms.append(torch.cat([g.flatten() for g in grads if g is not None]).norm().item())
        assert norms[0] > 0.01
        assert norms[1] == pytest.approx(0.01, rel=1e-3)


def test_moments_follow_the_layout_of_the_weights() -> None:
    """A run that goes on with channels last must not pair weights with others' moments."""
    before = make_stepper()
    before.step(batches(1)[0], at(0))
    stored = {name: optimizer.state_dict() for name, optimizer in before.optimizers.items()}
    resumed = make_stepper(channels_last=True)
    resumed.load_optimizers(copy.deepcopy(stored))
    for name, optimizer in resumed.optimizers.items():
        for index, (parameter, moments) in enumerate(optimizer.state.items()):
            assert moments["exp_avg"].stride() == parameter.stride()
            assert torch.equal(moments["exp_avg"], stored[name]["state"][index]["exp_avg"])


def test_float16s_scale_finds_its_way_down_and_skips_updates_until_then() -> None:
    """The scale starts at 2¹⁶; on this loss of about 10³ per weight it must fall before anything is updated."""
    from tests.test_step import TwoPhases

    model = TwoPhases()
    stepper = Stepper(model, device=CPU, precision="fp16", learning_rate=0.1, betas=(0.5, 0.999), seed=0)
    before = model.nets["a"].weight.item()
    loud = {"A": torch.full((1, 1), 2e3)}
    stepper.step(loud, at(0))
    assert model.nets["a"].weight.item() == before
    scale = stepper.state_dict()["stepper"]["scaler"]["scale"]
    assert scale < 2**16
    for number in range(1, 20):
        stepper.step(loud, at(number))
    assert model.nets["a"].weight.item() != before

    resumed = Stepper(TwoPhases(), device=CPU, precision="fp16", learning_rate=0.1, betas=(0.5, 0.999), seed=0)
    resumed.load_state_dict(stepper.state_dict())
    assert resumed.state_dict()["stepper"] == stepper.state_dict()["stepper"]


# Warm-up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["cycle_gan", "cut", "cclgan"])
def test_in_a_warm_up_only_the_discriminators_learn(model: str) -> None:
    stepper = make_stepper("--warmup_D", "2", model=model)
    before = {name: weights({name: network}) for name, network in stepper.model.nets.items()}
    results = [stepper.step(batch, at(number)) for number, batch in enumerate(batches(3))]
    assert all(name.startswith("D") for result in results[:2] for name in result.losses)
    assert set(results[0].losses) < set(results[2].losses)
    again = make_stepper("--warmup_D", "2", model=model)
    for number, batch in enumerate(batches(2)):
        again.step(batch, at(number))
    for name, network in again.model.nets.items():
        assert torch.equal(weights({name: network}), before[name]) == (not name.startswith("D")), name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_warmed_up_discriminators_are_those_of_training_them_alone(accumulate: int) -> None:
    """Against plain code: the generators' outputs are constants, and Adam steps by the discriminators' losses."""
    stepper = make_stepper("--pool_size", "0", "--warmup_D", "4", batch_size=2, accumulate=accumulate)
    plain = copy.deepcopy(stepper.model.nets)
    optimizer = torch.optim.Adam([*plain["D_A"].parameters(), *plain["D_B"].parameters()], LEARNING_RATE, (0.5, 0.999))
    for number, batch in enumerate(batches(2, size=2)):
        stepper.step(batch, at(2 * number))
        with torch.no_grad():
            fakes = {"D_A": (batch["B"], plain["G_A"](batch["A"])), "D_B": (batch["A"], plain["G_B"](batch["B"]))}
        loss = torch.zeros(())
        for name, (real, fake) in fakes.items():
            loss = loss + 0.5 * ((plain[name](real) - 1).square().mean() + plain[name](fake).square().mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name in ("D_A", "D_B"):  # kernels: biases before a norm have no gradient but rounding, which Adam enlarges
        ours, theirs = (
            torch.cat([p.detach().flatten() for p in nets[name].parameters() if p.ndim == 4])
            for nets in (stepper.model.nets, plain)
        )
        assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize("flag", ["--warmup_D", "--n_critic"])
def test_what_waits_for_a_discriminator_needs_one(flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        make_stepper("--lambda_GAN", "0", flag, "2", model="cut")


def test_the_critic_is_updated_n_times_for_each_update_of_the_generator() -> None:
    """WGAN-GP's schedule: the generator's turn is the last of each n steps, and only there its losses exist."""
    stepper = make_stepper("--gan_mode", "wgangp", "--n_critic", "3", model="cut")
    names = [set(stepper.step(batch, at(number)).losses) for number, batch in enumerate(batches(7))]
    assert ["G_GAN" in each for each in names] == [False, False, True, False, False, True, False]
    assert all("D_real" in each for each in names)
    counts = {name: {int(each["step"]) for each in opt.state.values()} for name, opt in stepper.optimizers.items()}
    assert counts == {"D": {7}, "G": {2}}
