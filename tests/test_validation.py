"""Validation: what it measures, that it disturbs nothing, and which checkpoints it calls best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn

from models.base_model import Model
from util.engine.records import BEST_FILE, EvalConfig, Records, choice_of
from util.engine.state import Position, TrainingState
from util.engine.step import Stepper
from util.engine.validation import Validation, Validator
from util.errors import UserError
from util.images import to_uint8
from util.metrics.metric import DEFAULT_METRICS

CPU = torch.device("cpu")
KEYS = [metric.key for metric in DEFAULT_METRICS]
CONFIG = EvalConfig(split="val", protocol="y", images=3, digest="abc")
GOOD = {"psnr": 30.0, "ssim": 0.9, "psnr_rgb": 28.0, "ciede2000": 2.0}
BAD = {"psnr": 20.0, "ssim": 0.5, "psnr_rgb": 18.0, "ciede2000": 9.0}


@dataclass
class Item:
    source: Tensor
    target: Tensor


class Images:
    """Pairs of random images of different sizes."""

    def __init__(self, count: int = 5) -> None:
        generator = torch.Generator().manual_seed(3)
        sizes = [(12 + number, 20 - number) for number in range(count)]
        self.names = tuple(f"scene_{number}" for number in range(count))
        self.items = [Item(*(torch.rand(1, 3, *size, generator=generator) * 2 - 1 for _ in range(2))) for size in sizes]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Any:
        return iter(self.items)


class Halving(Model):
    """Halves the image by a network with everything that a validation could disturb."""

    inference_nets = ("G",)

    def __init__(self) -> None:
        super().__init__()
        halve, norm = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)
        nn.init.dirac_(halve.weight)
        halve.weight.data *= 0.5
        halve.eval()  # as a user may freeze a part
        norm.weight.requires_grad_(False)
        network = nn.Sequential(halve, norm, nn.Dropout(0.5))
        self.nets["G"] = network

    def forward(self, batch: Any) -> Any: ...

    def visuals(self, outputs: Any) -> dict[str, Tensor]:
        return {}

    def infer(self, source: Tensor) -> Tensor:
        torch.rand(3)  # a method that draws
        return self.nets["G"](source)


def never() -> bool:
    return False


def make_state(model: Any = None, *, n_epochs: int = 10) -> TrainingState:
    stepper = Stepper(model or Halving(), device=CPU, precision="fp32", learning_rate=0.1, betas=(0.5, 0.999), seed=1)
    return TrainingState(stepper, n_epochs)


def test_values_are_the_mean_over_images_after_rounding_to_8_bits() -> None:
    images = Images()
    values = Validator(images, split="val", protocol="rgb").score_model(Halving(), CPU, "fp32", never)
    assert values is not None
    expected = [
        peak_signal_noise_ratio(
            np.asarray(to_uint8(item.target)),
            np.asarray(to_uint8(0.5 * item.source / math.sqrt(1 + 1e-5))),
            data_range=255,
        )
        for item in images
    ]
    assert values["psnr"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert list(values) == KEYS


def test_the_input_itself_is_scored_without_any_network() -> None:
    images = Images(2)
    values = Validator(images, split="val", protocol="rgb").score_input(never)
    assert values is not None
    expected = [
        peak_signal_noise_ratio(to_uint8(item.target), to_uint8(item.source), data_range=255) for item in images
    ]
    assert values["psnr_rgb"] == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_validation_leaves_modes_gradients_statistics_and_random_numbers_as_they_were() -> None:
    model = Halving()

    def seen() -> list[Any]:
        network = model.nets["G"]
        state = [value.clone() for value in network.state_dict().values()]
        return [
            [module.training for module in network.modules()],
            [parameter.requires_grad for parameter in network.parameters()],
            [value.tolist() for value in (*state, torch.get_rng_state())],
        ]

    before = seen()
    Validator(Images(), split="val", protocol="y").score_model(model, CPU, "fp32", never)
    assert seen() == before
    assert before[0] == [True, False, True, True]


def test_modes_are_put_back_after_a_failure_too() -> None:
    class Failing(Halving):
        def infer(self, source: Tensor) -> Tensor:
            raise UserError("gone")

    model = Failing()
    with pytest.raises(UserError, match="gone"):
        Validator(Images(), split="val", protocol="y").score_model(model, CPU, "fp32", never)
    assert model.nets["G"].training


@pytest.mark.parametrize("images_before_the_stop", [0, 1, 4])
def test_a_user_who_wants_to_stop_waits_for_one_image(images_before_the_stop: int) -> None:
    class Counting(Halving):
        translated = 0

        def infer(self, source: Tensor) -> Tensor:
            self.translated += 1
            return super().infer(source)

    model = Counting()
    validator = Validator(Images(), split="val", protocol="y")
    values = validator.score_model(model, CPU, "fp32", lambda: model.translated >= images_before_the_stop)
    assert values is None
    assert model.translated == images_before_the_stop


@pytest.mark.parametrize(
    ("position", "last_epoch", "expected"),
    [
        (Position(epoch=1), 0, False),
        (Position(epoch=5, total_images=8), 0, False),
        (Position(epoch=4, total_images=6), 0, True),
        (Position(epoch=4, total_images=6), 3, False),
        (Position(epoch=4, images_in_epoch=1, total_images=7), 0, False),
        (Position(epoch=7, total_images=12), 3, True),
        (Position(epoch=11, total_images=20), 9, True),
        (Position(epoch=11, total_images=20), 10, False),
        (Position(epoch=4), 0, False),
    ],
    ids=[
        "new run", "not due", "due", "done", "within the next epoch", "due again", "after the last epoch",
        "that one done", "weights of another project, not trained here",
    ],
)  # fmt: skip
def test_a_validation_is_pending_when_due_and_not_made(position: Position, last_epoch: int, expected: bool) -> None:
    state = make_state()
    validation = Validation(state, Validator(Images(1), split="val", protocol="y"), every=3)
    state.position, state.records.last_epoch = position, last_epoch
    assert validation.pending is expected


def test_measuring_says_the_values_and_the_best_so_far(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    state = make_state()
    validation = Validation(state, Validator(Images(2), split="val", protocol="y"), every=1)
    state.position = Position(epoch=4, total_images=6)
    state.records.add(GOOD, epoch=2, total_images=4)
    assert validation.begin(never) and state.records.reference
    values = validation.measure(never)
    assert values == state.records.last
    last = caplog.messages[-1]
    assert last.startswith("validation of epoch 3 ")
    assert "(best 30.00, epoch 2)" in last and "(best 0.9000, epoch 2)" in last and "(best 2.00, epoch 2)" in last


def test_choosing_on_the_test_split_is_never_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = make_state()
    Validation(state, Validator(Images(1), split="test", protocol="y"), every=1)
    assert "chosen on the test split" in caplog.text
    state.records.write(tmp_path)
    assert "chosen on the test split" in yaml.safe_load((tmp_path / BEST_FILE).read_text())["note"]


def test_a_better_value_is_higher_or_for_color_differences_lower() -> None:
    records = Records()
    assert set(records.add(BAD, epoch=1, total_images=10)) == set(KEYS)
    assert set(records.add(GOOD, epoch=2, total_images=20)) == set(KEYS)
    assert records.add(BAD, epoch=3, total_images=30) == ()
    assert records.add(GOOD, epoch=4, total_images=40) == ()  # a tie keeps the earlier one
    assert {best.epoch for best in records.best.values()} == {2}
    assert (records.last_epoch, records.last) == (4, GOOD)
    assert set(records.best_at(20)) == set(KEYS) and records.best_at(40) == ()


def test_not_a_number_is_never_best_and_infinity_is() -> None:
    records = Records()
    assert "psnr" not in records.add({**GOOD, "psnr": math.nan}, epoch=1, total_images=1)
    assert records.add({**BAD, "psnr": math.inf}, epoch=2, total_images=2) == ("psnr",)
    assert records.add({**GOOD, "psnr": 99.0}, epoch=3, total_images=3) == ()


def test_records_survive_a_file(tmp_path: Path) -> None:
    records = Records()
    records.measure_by(CONFIG)
    records.reference = BAD
    records.add({**GOOD, "psnr": math.inf}, epoch=2, total_images=20)
    torch.save(records.state_dict(), tmp_path / "state.pth")
    back = Records()
    back.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert back == records


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "rgb"}, "protocol y -> rgb"),
        ({"split": "test"}, "split val -> test"),
        ({"images": 4}, "images 3 -> 4"),
        ({"digest": "other"}, "other images"),
    ],
)
def test_values_under_another_configuration_are_not_compared(
    change: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records()
    records.measure_by(CONFIG)
    records.add(GOOD, epoch=2, total_images=20)
    assert not records.measure_by(CONFIG)
    assert records.best and not caplog.text
    assert records.measure_by(EvalConfig(**{**vars(CONFIG), **change}))
    assert words in caplog.text
    assert not records.best and records.last_epoch == 0
    assert set(records.add(BAD, epoch=4, total_images=40)) == set(KEYS)


def test_what_a_best_checkpoint_was_chosen_on_is_told_at_its_test(tmp_path: Path) -> None:
    records = Records()
    records.measure_by(CONFIG)
    records.add(GOOD, epoch=7, total_images=20)
    records.write(tmp_path)
    told = choice_of(tmp_path, "best_ssim", "test")
    assert told == "best_ssim is epoch 7, chosen on the val split (3 images, protocol y)."
    assert "flatter" in choice_of(tmp_path, "best_ssim", "val")
    assert choice_of(tmp_path, "latest", "test") == ""
    assert choice_of(tmp_path / "elsewhere", "best_ssim", "test") == ""


@pytest.mark.parametrize("content", ["", "best: 3", "{", "split: val\nbest: {best_psnr: 1}\n"])
def test_a_damaged_record_file_costs_a_warning(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / BEST_FILE).write_text(content)
    assert choice_of(tmp_path, "best_psnr", "test") == ""
    assert BEST_FILE in caplog.text


def test_a_state_from_before_validations_goes_on(tmp_path: Path) -> None:
    old = make_state()
    old.position.total_images = 12
    content = {key: value for key, value in old.state_dict().items() if key != "validation"} | {"format": 2}
    new = make_state()
    new.load_state_dict(content, tmp_path / "training_state.pth", describe=lambda _: {})
    assert new.position.total_images == 12 and new.records == Records()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": 99}, "newer version"),
        ({"format": 1}, "not a training state of this version"),
        ([], "not a training"),
    ],
)
def test_a_state_of_another_version_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_state().load_state_dict(content, tmp_path / "training_state.pth", describe=lambda _: {})
