"""A run's options file as --config: for the other program, for another model, and under another preset."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from models.cycle_gan_model import CycleGANModel
from options import Options, parse_test, parse_train, save_options
from util.errors import UserError
from util.option import Option
from util.registry import Registry


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)


def saved(*flags: str, file: str = "run.yaml") -> str:
    """The options file that a training with these flags leaves behind."""
    save_options(parse_train(["--dataroot", "photos", *flags]), file)
    return file


def flattened(file: str) -> str:
    """The same file as earlier versions wrote it: every option's value, without what the user gave."""
    values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["resolved"]
    Path(file).write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]


def differences(ours: Options, theirs: Options) -> set[str]:
    """Names of the options that differ, but for how the program was called."""
    mine, yours = vars(ours), vars(theirs)
    return {name for name in mine.keys() | yours.keys() if mine.get(name) != yours.get(name)} - {"config"}


def test_a_run_s_file_trains_the_same_again(caplog: pytest.LogCaptureFixture) -> None:
    flags = ("--model", "cut", "--CUT_mode", "FastCUT", "--lambda_NCE", "3", "--norm", "batch")
    again = parse_train(["--config", saved(*flags)])
    assert not differences(again, parse_train(["--dataroot", "photos", *flags]))
    assert not warnings(caplog) and not notes(caplog)


# For test.py


def test_testing_takes_architecture_and_place_from_a_training_s_file(caplog: pytest.LogCaptureFixture) -> None:
    flags = ("--model", "cut", "--name", "deep", "--ngf", "32", "--norm", "batch", "--netF_nc", "64")
    opt = parse_test(["--config", saved(*flags, "--gpu_ids", "-1")])
    assert (opt.name, opt.model, opt.ngf, opt.normG, opt.netF_nc) == ("deep", "cut", 32, "batch", 64)
    assert (opt.dataroot, opt.gpu_ids) == ("photos", "-1")


SETTINGS = ("--preprocess", "crop", "--load_size", "99", "--crop_size", "48", "--batch_size", "2",
            "--max_dataset_size", "5", "--precision", "bf16")  # fmt: skip


def names_left_out(caplog: pytest.LogCaptureFixture) -> set[str]:
    (warning,) = warnings(caplog)
    return set(warning.removeprefix("run.yaml: ").split(" left out")[0].split(", "))


def test_testing_takes_no_training_settings_and_names_them_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    opt = parse_test(["--config", saved(*SETTINGS, "--lr", "0.5")])
    assert not differences(opt, parse_test(["--dataroot", "photos"]))
    assert names_left_out(caplog) == {flag[2:] for flag in SETTINGS[::2]} | {"lr"}


def test_testing_takes_no_training_settings_from_a_file_of_an_earlier_version(caplog: pytest.LogCaptureFixture) -> None:
    opt = parse_test(["--config", flattened(saved(*SETTINGS))])
    assert not differences(opt, parse_test(["--dataroot", "photos"]))
    names = names_left_out(caplog)
    assert {"preprocess", "load_size", "crop_size", "no_flip", "batch_size", "serial_batches", "max_dataset_size",
            "precision", "phase", "lr", "n_epochs"} <= names  # fmt: skip
    assert not {"model", "netG", "dataroot", "name", "direction"} & names


def test_the_command_line_still_sets_what_a_training_s_file_may_not() -> None:
    opt = parse_test(["--config", saved("--load_size", "99", "--crop_size", "48"), "--load_size", "77"])
    assert (opt.load_size, opt.crop_size) == (77, 256)


def test_a_file_without_training_options_may_set_how_a_test_reads_images(caplog: pytest.LogCaptureFixture) -> None:
    Path("c.yaml").write_text("preprocess: scale_width\nload_size: 99\nphase: val\nnum_test: 3\n", encoding="utf-8")
    opt = parse_test(["--dataroot", "x", "--config", "c.yaml"])
    assert (opt.preprocess, opt.load_size, opt.phase, opt.num_test) == ("scale_width", 99, "val", 3)
    assert not warnings(caplog)


def test_a_file_for_both_programs_gives_each_its_own(caplog: pytest.LogCaptureFixture) -> None:
    Path("c.yaml").write_text("dataroot: x\nlr: 0.5\nnum_test: 3\nnorm: batch\n", encoding="utf-8")
    assert parse_train(["--config", "c.yaml"]).lr == 0.5
    opt = parse_test(["--config", "c.yaml"])
    assert (opt.num_test, opt.normG) == (3, "batch")
    assert [message.split(",")[0] for message in warnings(caplog)] == [
        "c.yaml: num_test left out",
        "c.yaml: lr left out",
    ]


# For another model


def test_keys_of_another_model_are_left_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    own = ("--CUT_mode", "FastCUT", "--nce_T", "0.1", "--flip_equivariance", "false")
    opt = parse_train(["--config", saved("--model", "cut", "--ngf", "32", *own), "--model", "cycle_gan"])
    assert (opt.model, opt.ngf) == ("cycle_gan", 32)
    (warning,) = warnings(caplog)
    assert all(name in warning for name in ("CUT_mode", "nce_T", "flip_equivariance")) and "ngf" not in warning


def test_another_model_has_its_own_defaults() -> None:
    file = saved("--model", "cut", "--beta1", "0.7")
    opt = parse_train(["--config", file, "--model", "cycle_gan"])
    assert differences(opt, parse_train(["--dataroot", "photos", "--model", "cycle_gan"])) == {"beta1"}


@pytest.mark.parametrize(("line", "hint"), [("n_epoch: 3", "n_epochs"), ("lambda_NEC: 3", "lambda_NCE")])
def test_a_name_that_nobody_has_stays_an_error(line: str, hint: str) -> None:
    Path("c.yaml").write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match=f"there is no such option .did you mean '{hint}'"):
        parse_train(["--dataroot", "x", "--config", "c.yaml"])


def test_on_the_command_line_foreign_options_stay_errors() -> None:
    with pytest.raises(UserError, match="--lambda_A: belongs to --model cycle_gan"):
        parse_train(["--config", saved("--model", "cut"), "--lambda_A", "3"])


# Under another preset


def test_another_preset_on_the_command_line_brings_its_defaults() -> None:
    file = saved("--model", "cut")
    opt = parse_train(["--config", file, "--CUT_mode", "FastCUT"])
    assert not differences(opt, parse_train(["--dataroot", "photos", "--model", "cut", "--CUT_mode", "FastCUT"]))


def test_values_that_were_no_defaults_stay_under_another_preset() -> None:
    file = saved("--model", "cut", "--lambda_NCE", "3", "--n_epochs", "7")
    opt = parse_train(["--config", file, "--CUT_mode", "FastCUT", "--n_epochs_decay", "9"])
    assert (opt.lambda_NCE, opt.n_epochs, opt.n_epochs_decay, opt.nce_idt) == (3.0, 7, 9, False)


@pytest.mark.parametrize("flat", [False, True])
def test_what_the_user_set_outlives_a_continuation(flat: bool) -> None:
    """A value that the new preset has by default was set by the user, and stays under the next preset."""
    file = saved("--model", "cut", "--n_epochs", "150", file="checkpoints/rain/options.yaml")
    if flat:
        flattened(file)
    continued = parse_train(["--name", "rain", "--continue_train"])
    assert "n_epochs" in continued.given and "lr" not in continued.given
    save_options(continued, file)
    fast = ["--name", "rain", "--continue_train", "--CUT_mode"]
    save_options(parse_train([*fast, "FastCUT"]), file)
    again = parse_train([*fast, "CUT"])
    assert (again.n_epochs, again.n_epochs_decay, again.lambda_NCE) == (150, 200, 1.0)


def test_a_hand_written_file_may_have_an_option_called_given_or_resolved_as_any_unknown_one() -> None:
    Path("c.yaml").write_text("given: {lr: 1}\n", encoding="utf-8")
    with pytest.raises(UserError, match="'given' in c"):
        parse_train(["--dataroot", "x", "--config", "c.yaml"])


def test_the_same_preset_again_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    file = saved("--model", "cut", "--lambda_NCE", "1")
    assert parse_train(["--config", file, "--CUT_mode", "cut"]).lambda_NCE == 1.0
    assert not notes(caplog)


def test_a_file_that_names_no_preset_keeps_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    Path("c.yaml").write_text("model: cut\nn_epochs: 200\n", encoding="utf-8")
    assert parse_train(["--dataroot", "x", "--config", "c.yaml", "--CUT_mode", "FastCUT"]).n_epochs == 200
    assert not notes(caplog)


@pytest.mark.parametrize("flat", [False, True])
def test_continuing_under_another_preset_brings_its_defaults(caplog: pytest.LogCaptureFixture, flat: bool) -> None:
    file = saved("--model", "cclgan", "--lambda_intra", "0.1", file="checkpoints/rain/options.yaml")
    if flat:
        flattened(file)
    opt = parse_train(["--name", "rain", "--continue_train", "--preset", "release"])
    assert (opt.preset, opt.lcl_terms, opt.gan_mode, opt.lambda_intra) == ("release", 4, "hinge", 0.1)
    (note,) = notes(caplog)
    assert note == (
        "checkpoints/rain/options.yaml: other defaults hold under the options given now: gan_mode hinge, lcl_terms 4"
    )


def test_continuing_keeps_the_architecture_that_the_weights_have(monkeypatch: pytest.MonkeyPatch) -> None:

    class Sized(CycleGANModel):
        options: ClassVar[Any] = (*CycleGANModel.options, Option("size", "small", "preset", choices=("small", "large")))

        @classmethod
        def defaults(cls, chosen: Any) -> dict[str, Any]:
            return {"ngf": 96, "lr": 0.5} if chosen.get("size") == "large" else {"ngf": 16}

    models: Registry[Any] = Registry("model", "--model", {})
    models.register("cclgan")(Sized)
    monkeypatch.setattr("models.MODELS", models)
    saved(file="checkpoints/rain/options.yaml")
    opt = parse_train(["--name", "rain", "--continue_train", "--size", "large"])
    assert (opt.ngf, opt.lr) == (16, 0.5)
    assert parse_train(["--config", "checkpoints/rain/options.yaml", "--size", "large"]).ngf == 96


def test_a_model_that_is_gone_from_the_file_does_not_matter_under_another() -> None:
    values = yaml.safe_load(Path(saved("--model", "cut")).read_text(encoding="utf-8"))
    values["given"]["model"] = "gone"
    Path("c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert parse_train(["--config", "c.yaml", "--model", "cut"]).model == "cut"
    with pytest.raises(UserError, match="gone"):
        parse_train(["--config", "c.yaml"])
