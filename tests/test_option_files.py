"""Options in files: what is written, what is read, and what a run hands on to testing and continuing."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from options import Options, parse_test, parse_train, read_options, save_options
from options.schema import convert
from util.errors import UserError
from util.option import Option, Scope
from util.registry import Registry

ARCHITECTURE = {"netG": "unet_128", "ngf": 24, "normG": "batch", "residual": True, "direction": "BtoA", "width": 5}


class Streaks:
    options: tuple[Option, ...] = (
        Option("width", 8, "of the head", scope=Scope.ARCHITECTURE),
        Option("alpha", 1.0, "a weight"),
    )

    @classmethod
    def defaults(cls, chosen: Any) -> dict[str, Any]:
        del chosen
        return {"ngf": 48}


class Clouds(Streaks):
    options = (Option("lambda_A", 10.0, "cycle"),)


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    models: Registry[Any] = Registry("model", "--model", {})
    models.register("cclgan")(Clouds)
    models.register("streaks")(Streaks)
    datasets: Registry[Any] = Registry("dataset", "--dataset_mode", {})
    for name in ("unaligned", "aligned"):
        datasets.register(name)(type(name, (Clouds,), {"options": (), "defaults": classmethod(lambda cls, chosen: {})}))
    monkeypatch.setattr("models.MODELS", models)
    monkeypatch.setattr("data.DATASETS", datasets)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> Path:
    """A run with unusual options; returns its options file."""
    return leave_run("rain")


def leave_run(folder: str, **more: Any) -> Path:
    file = Path("checkpoints") / folder / "options.yaml"
    file.parent.mkdir(parents=True)
    others = {"dataroot": "photos", "dataset_mode": "aligned", "lr": 0.5, "load_size": 99, "crop_size": 77}
    saved = {"model": "streaks", **ARCHITECTURE, **others, "preprocess": "crop", "no_flip": False, "alpha": 4.0, **more}
    file.write_text(yaml.safe_dump(saved), encoding="utf-8")
    return file


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# Testing a run


@pytest.mark.parametrize(("name", "value"), [("model", "streaks"), *ARCHITECTURE.items()])
def test_testing_takes_the_architecture_from_the_run(run: Path, name: str, value: Any) -> None:
    assert getattr(parse_test(["--name", "rain"]), name) == value


def test_testing_takes_the_images_from_the_run_if_not_told_otherwise(run: Path) -> None:
    opt = parse_test(["--name", "rain"])
    assert (opt.dataroot, opt.dataset_mode) == ("photos", "aligned")
    assert parse_test(["--name", "rain", "--dataroot", "others"]).dataroot == "others"


def test_testing_takes_nothing_about_training_from_the_run(run: Path) -> None:
    opt = parse_test(["--name", "rain"])
    assert (opt.preprocess, opt.no_flip, opt.load_size, opt.crop_size, opt.alpha) == ("none", True, 286, 256, 1.0)


def test_a_run_is_silently_fine(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    parse_test(["--name", "rain", "--ngf", "24"])
    assert not warnings(caplog)


def test_an_explicit_architecture_wins_and_names_both_values(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_test(["--name", "rain", "--ngf", "32"]).ngf == 32
    (warning,) = warnings(caplog)
    assert "--ngf 32" in warning and "24" in warning and str(run) in warning


def test_an_explicit_model_wins_over_the_run_s(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    opt = parse_test(["--name", "rain", "--model", "cclgan"])
    assert (opt.model, opt.ngf) == ("cclgan", 24)
    (warning,) = warnings(caplog)
    assert "--model cclgan" in warning and "streaks" in warning


def test_config_wins_over_the_run_and_the_command_line_over_both(run: Path) -> None:
    Path("c.yaml").write_text("ngf: 30\nwidth: 6\n", encoding="utf-8")
    opt = parse_test(["--name", "rain", "--config", "c.yaml", "--width", "7"])
    assert (opt.ngf, opt.width) == (30, 7)


def test_a_folder_without_options_is_tested_with_the_command_line_alone() -> None:
    Path("checkpoints/published").mkdir(parents=True)
    assert parse_test(["--name", "published", "--dataroot", "x", "--model", "streaks"]).ngf == 48


def test_a_suffix_finds_the_run() -> None:
    leave_run("rain_streaks_64")
    opt = parse_test(["--name", "rain", "--suffix", "{model}_{ndf}", "--model", "streaks"])
    assert (opt.name, opt.netG) == ("rain_streaks_64", "unet_128")


def test_saved_options_of_an_older_version_are_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    file = leave_run("rain", forgotten=1, lost=2)
    opt = parse_test(["--name", "rain"])
    assert not hasattr(opt, "forgotten")
    assert warnings(caplog) == [f"{file}: forgotten, lost ignored, unknown to this version"]


def test_a_saved_value_is_checked_like_a_typed_one() -> None:
    file = leave_run("rain", netD="huge")
    with pytest.raises(UserError, match="is not a choice") as caught:
        parse_test(["--name", "rain"])
    assert f"'netD' in {file}" in str(caught.value)


def test_a_run_s_plugin_is_not_executed_but_named() -> None:
    Path("evil.py").write_text("open('executed', 'w')\n", encoding="utf-8")
    leave_run("rain", model="mist", plugin=["evil.py"])
    with pytest.raises(UserError, match=r"--model mist, .* is not known; add --plugin evil\.py"):
        parse_test(["--name", "rain"])
    assert not Path("executed").exists()


# Starting with the networks of a run


def test_a_start_from_a_run_takes_its_architecture_and_nothing_else(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opt = parse_train(["--init_from", "rain", "--dataroot", "x"])
    assert {name: getattr(opt, name) for name in ARCHITECTURE} == ARCHITECTURE
    assert (opt.model, opt.init_from, opt.name) == ("streaks", str(run.parent), "experiment_name")
    assert (opt.lr, opt.load_size, opt.dataset_mode, opt.alpha) == (2e-4, 286, "unaligned", 1.0)
    assert opt.given == {"init_from", "dataroot"} and not warnings(caplog)


def test_another_method_may_start_from_a_run(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    opt = parse_train(["--init_from", "rain", "--dataroot", "x", "--model", "cclgan"])
    assert (opt.model, opt.ngf) == ("cclgan", 24) and not warnings(caplog)


def test_there_must_be_something_to_start_from(run: Path) -> None:
    with pytest.raises(UserError, match=r"--init_from rian: there is neither .* \(did you mean 'rain'\?\)"):
        parse_train(["--init_from", "rian", "--dataroot", "x"])


# Continuing a run


def test_continuing_takes_every_option_of_the_run(run: Path) -> None:
    opt = parse_train(["--name", "rain", "--continue_train"])
    assert (opt.dataroot, opt.lr, opt.load_size, opt.preprocess, opt.alpha) == ("photos", 0.5, 99, "crop", 4.0)
    assert {name: getattr(opt, name) for name in ARCHITECTURE} == ARCHITECTURE


def test_continuing_lets_the_command_line_win(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    opt = parse_train(["--name", "rain", "--continue_train", "--lr", "0.25", "--netG", "unet_256"])
    assert (opt.lr, opt.netG) == (0.25, "unet_256")
    assert len(warnings(caplog)) == 1  # only what is architecture


def test_continuing_is_about_this_call_only() -> None:
    leave_run("rain", epoch="5", epoch_count=6, name="elsewhere", checkpoints_dir="/other")
    opt = parse_train(["--name", "rain", "--continue_train"])
    assert (opt.epoch, opt.epoch_count, opt.name, opt.checkpoints_dir) == ("latest", 1, "rain", "./checkpoints")


def test_a_new_training_does_not_look_at_an_old_run(run: Path) -> None:
    assert parse_train(["--name", "rain", "--dataroot", "x"]).lr == 2e-4


def test_continuing_may_be_said_in_the_config(run: Path) -> None:
    Path("c.yaml").write_text("continue_train: true\nname: rain\n", encoding="utf-8")
    assert parse_train(["--config", "c.yaml"]).lr == 0.5


def test_a_misspelled_run_gets_a_suggestion(run: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'rain'"):
        parse_train(["--name", "rian", "--continue_train"])


def test_continuing_without_saved_options_is_possible_and_told(caplog: pytest.LogCaptureFixture) -> None:
    Path("checkpoints/rain").mkdir(parents=True)
    parse_train(["--name", "rain", "--continue_train", "--dataroot", "x"])
    assert "options.yaml is missing" in warnings(caplog)[0]


# --config


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("n_epoch: 3", "'n_epoch' in c.yaml: there is no such option (did you mean 'n_epochs'?)"),
        ("config: d.yaml", "'config' in c.yaml: an options file cannot name another one"),
        ("lr: fast", "'lr' in c.yaml: 'fast' is not a number"),
        ("lr: .nan", "'lr' in c.yaml: nan is not a finite number"),
        ("lr:", "'lr' in c.yaml: has no value"),
        ("lr: {a: 1}", "'lr' in c.yaml: holds a mapping"),
        ("name: [a, b]", "'name' in c.yaml: holds a list"),
        ("name: no", "'name' in c.yaml: is read as false"),
        ("batch_size: 2.0", "'batch_size' in c.yaml: '2.0' is not a whole number"),
        ("no_flip: 3", "'no_flip' in c.yaml: '3' is neither true nor false"),
        ("name: ../x", "--name '../x'"),
    ],
)
def test_a_mistake_in_a_config_is_told_with_its_file(line: str, words: str) -> None:
    Path("c.yaml").write_text(line, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        parse_train(["--dataroot", "x", "--config", "c.yaml"])
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("lr: 2e-4", 2e-4),  # text to YAML 1.1, which wants a dot in the mantissa
        ("lr: 1", 1.0),
        ("gpu_ids: [0, 1]", "0,1"),
        ("gpu_ids: -1", "-1"),
        ("max_dataset_size: .inf", None),
        ("max_dataset_size: null", None),
        ("no_flip: yes", True),
        ("epoch: 20", "20"),
        ("norm: NONE", None),
    ],
)
def test_a_config_may_write_values_as_yaml_does(line: str, value: Any) -> None:
    Path("c.yaml").write_text(line, encoding="utf-8")
    opt = parse_train(["--dataroot", "x", "--config", "c.yaml"])
    assert getattr(opt, line.split(":", maxsplit=1)[0]) == value


def test_a_bare_no_in_a_config_is_the_choice_no() -> None:
    Path("c.yaml").write_text("eval_pairs: no\n", encoding="utf-8")
    assert parse_test(["--dataroot", "x", "--config", "c.yaml"]).eval_pairs == "no"


def test_null_is_a_value_where_the_converter_knows_none() -> None:
    option = Option("limit", 5, "", type=lambda text: None if text == "none" else int(text))
    assert convert(option, None, "here") is None


# Writing


def test_a_saved_file_is_sorted_and_tells_the_command_line_and_what_was_given() -> None:
    opt = Options({"lr": 1.0, "beta": 2}, given=("lr", "config"), command="python train.py --name 'a b'")
    save_options(opt, "deep/o.yaml")
    assert Path("deep/o.yaml").read_text(encoding="utf-8").splitlines() == [
        "# python train.py --name 'a b'",
        "# Usable as --config o.yaml",
        "given:",
        "  lr: 1.0",
        "resolved:",
        "  beta: 2",
        "  lr: 1.0",
    ]


@pytest.mark.parametrize("value", ["no", "null", "1_0", "2024-01-01", "ü τ", "a: b # c", "", "x\ny", "0x1", "on"])
def test_text_survives_the_round_trip(value: str) -> None:
    save_options(argparse.Namespace(name=value), "o.yaml")
    assert read_options("o.yaml") == {"name": value}


def test_a_line_break_in_the_command_line_cannot_become_an_option() -> None:
    save_options(Options({"lr": 1.0}, command="train --name 'x\nlr: 9\u2028seed: 3\x07'"), "o.yaml")
    assert read_options("o.yaml") == {"lr": 1.0}


def test_how_a_program_was_called_is_not_saved() -> None:
    save_options(argparse.Namespace(lr=1.0, config="c.yaml", continue_train=True), "o.yaml")
    assert read_options("o.yaml") == {"lr": 1.0}


def test_an_interrupted_saving_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    save_options(argparse.Namespace(lr=1.0), "o.yaml")

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match=r"o\.yaml: cannot save the options there \(No space"):
        save_options(argparse.Namespace(lr=2.0), "o.yaml")
    assert read_options("o.yaml") == {"lr": 1.0}
    assert [path.name for path in Path().iterdir()] == ["o.yaml"]


def test_a_place_that_is_no_folder_is_told() -> None:
    Path("file").touch()
    with pytest.raises(UserError, match="cannot save the options there"):
        save_options(argparse.Namespace(lr=2.0), "file/o.yaml")


# Reading


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [executed]",
        "lr: !!python/object/apply:os.mkdir [executed]",
        "lr: !!python/name:os.system ''",
        "lr: !mine 3",
    ],
)
def test_yaml_that_asks_for_objects_is_refused(text: str) -> None:
    Path("c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"c\.yaml: is not valid YAML \(line 1: could not determine a constructor"):
        read_options("c.yaml")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"lr: [1,", "c.yaml: is not valid YAML (line 1"),
        (b"\tlr: 1", "c.yaml: is not valid YAML (line 1"),
        (b"- 1\n- 2", "c.yaml: does not map option names to values"),
        (b"just text", "c.yaml: does not map option names to values"),
        (b"3: 4", "c.yaml: does not map option names to values"),
        (b"day: 2024-13-45", "c.yaml: is not valid YAML (month must be in 1..12"),
        (b"[" * 5000, "c.yaml: is not valid YAML (nested too deeply)"),
        (b"lr: \xff\xfe", "c.yaml: cannot read options from it (it is not UTF-8 text)"),
        (b"lr: \x07", "c.yaml: is not valid YAML"),
    ],
)
def test_a_broken_file_is_told_in_one_sentence(content: bytes, words: str) -> None:
    Path("c.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_options("c.yaml")
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_a_folder_is_no_options_file() -> None:
    with pytest.raises(UserError, match="cannot read options from it"):
        read_options(".")


@pytest.mark.parametrize("content", ["", "# nothing yet\n"])
def test_an_empty_file_sets_nothing(content: str) -> None:
    Path("c.yaml").write_text(content, encoding="utf-8")
    assert read_options("c.yaml") == {}


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    Path("c.yaml").write_bytes(b"\xef\xbb\xbflr: 1.5")
    assert read_options("c.yaml") == {"lr": 1.5}
