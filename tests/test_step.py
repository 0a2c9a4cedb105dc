"""One training step of any model, seen from outside: what is updated, and that it repeats exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.base_model import Batch, Model, Phase
from tests.conftest import at
from util.engine.device import choose_device
from util.engine.loop import crossed
from util.engine.precision import set_precision
from util.engine.state import Position
from util.engine.step import Stepper
from util.errors import UserError


class TwoPhases(Model):
    """First trains a on a·b·x, then b on the same product."""

    inference_nets = ("b",)

    def __init__(self) -> None:
        super().__init__()
        self.nets.update({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
        nn.init.constant_(self.nets["a"].weight, 2.0)
        nn.init.constant_(self.nets["b"].weight, 3.0)
        self.grad_flags: list[tuple[bool, bool]] = []
        self.draws: list[float] = []
        self.phases = (Phase("A", ("a",), self.losses, needs_graph=False), Phase("B", ("b",), self.losses))

    def forward(self, batch: Batch) -> Tensor:
        self.draws.append(torch.rand(()).item())
        return batch["A"]

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        self.grad_flags.append(tuple(p.requires_grad for n in self.nets.values() for p in n.parameters()))
        return {"product": self.nets["b"](self.nets["a"](x)).mean()}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["b"](source)

    def visuals(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"real_A": outputs}


def make_stepper(model: TwoPhases, seed: int = 1) -> Stepper:
    return Stepper(
        model, device=torch.device("cpu"), precision="fp32", learning_rate=0.1, betas=(0.5, 0.999), seed=seed
    )


BATCH = {"A": torch.ones(1, 1)}


def test_each_phase_updates_its_own_networks_with_adams_first_step() -> None:
    model = TwoPhases()
    make_stepper(model).step(BATCH, at(0))
    # Adam's first step is the learning rate times the gradient's sign; both gradients are positive.
    assert model.nets["a"].weight.item() == pytest.approx(1.9)
    assert model.nets["b"].weight.item() == pytest.approx(2.9)
    assert model.grad_flags == [(True, False), (False, True)]


def test_the_second_phase_sees_what_the_first_has_learnt() -> None:
    model = TwoPhases()
    result = make_stepper(model).step(BATCH, at(0))
    assert result.losses["product"].item() == pytest.approx(1.9 * 3.0)


def test_only_the_losses_of_networks_that_testing_needs_are_watched() -> None:
    result = make_stepper(TwoPhases()).step(BATCH, at(0))
    assert result.generator_loss.item() == pytest.approx(1.9 * 3.0)  # the second phase, which trains b


def test_a_steps_random_numbers_depend_on_seed_and_position_alone() -> None:
    first, second = TwoPhases(), TwoPhases()
    stepper = make_stepper(first)
    for images_seen in (0, 1, 2):
        stepper.step(BATCH, at(images_seen))
    torch.rand(17)  # somebody else draws
    make_stepper(second).step(BATCH, at(2))
    assert first.draws[2] == second.draws[0]
    assert len(set(first.draws)) == 3
    other = TwoPhases()
    make_stepper(other, seed=2).step(BATCH, at(2))
    assert other.draws[0] != second.draws[0]


def test_visuals_are_made_only_when_wanted() -> None:
    stepper = make_stepper(TwoPhases())
    assert stepper.step(BATCH, at(0)).visuals == {}
    assert list(stepper.step(BATCH, at(0), want_visuals=True).visuals) == ["real_A"]


@pytest.mark.parametrize(
    ("before", "after", "every", "expected"),
    [
        (0, 1, 1, True),
        (99, 102, 100, True),
        (100, 103, 100, False),
        (0, 3, 100, False),
        (97, 100, 100, True),
        (1, 251, 100, True),
    ],
)
def test_every_n_images_holds_for_any_batch_size(before: int, after: int, every: int, expected: bool) -> None:
    assert crossed(before, after, every) is expected


def test_position_counts_images_and_starts_epochs_anew() -> None:
    position = Position(images_per_epoch=5)
    position.advance(3)
    position.advance(2)
    assert (position.epoch, position.images_in_epoch, position.total_images) == (1, 5, 5)
    position.next_epoch()
    assert (position.epoch, position.images_in_epoch, position.total_images) == (2, 0, 5)


@pytest.mark.parametrize(
    ("images_in_epoch", "batch_size", "images_per_epoch", "first_batch"),
    [(0, 3, 10, 0), (6, 3, 10, 2), (6, 2, 10, 3), (10, 3, 10, 4), (6, 4, 10, 0), (6, 3, 12, 0)],
    ids=["new", "same", "other batch size that fits", "ended", "batch size that does not fit", "other data"],
)
def test_an_epoch_goes_on_only_if_it_is_made_of_the_same_batches(
    images_in_epoch: int, batch_size: int, images_per_epoch: int, first_batch: int
) -> None:
    position = Position(images_in_epoch=images_in_epoch, images_per_epoch=10, total_images=30)
    assert position.first_batch(batch_size, images_per_epoch) == first_batch
    assert position.images_per_epoch == images_per_epoch
    if first_batch == 0:
        assert position.images_in_epoch == 0


def test_no_gpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    assert choose_device("-1").type == "cpu"
    with pytest.raises(UserError, match="--gpu_ids 0"):
        choose_device("0")


def test_a_named_precision_is_taken_as_it_is() -> None:
    assert set_precision("bf16", torch.device("cpu")) == "bf16"
    assert set_precision("auto", torch.device("cpu")) in ("fp32", "bf16")


def test_bf16_steps_keep_float32_weights() -> None:
    model = TwoPhases()
    stepper = Stepper(
        model, device=torch.device("cpu"), precision="bf16", learning_rate=0.1, betas=(0.5, 0.999), seed=0
    )
    stepper.step(BATCH, at(0))
    assert model.nets["a"].weight.dtype == torch.float32
    assert model.nets["a"].weight.item() == pytest.approx(1.9, abs=1e-3)
