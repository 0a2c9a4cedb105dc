"""Parsing: who wins, what is refused, and in which words."""

from __future__ import annotations

import argparse
import copy
import logging
import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from options import Options, parse_test, parse_train, save_options
from options.flags import TEST, TRAIN
from util.errors import UserError, entry_point
from util.option import Option, Scope
from util.registry import Registry


class Streaks:
    """A model with a preset, as CUT has."""

    options: tuple[Option, ...] = (
        Option("mode", "Slow", "how", choices=("Slow", "Fast")),
        Option("alpha", 1.0, "a weight", minimum=0),
        Option("width", 8, "of the head", scope=Scope.ARCHITECTURE, minimum=1),
    )

    @classmethod
    def defaults(cls, chosen: Any) -> dict[str, Any]:
        return {"n_epochs": 3, "alpha": 7.0} if chosen.get("mode") == "Fast" else {"n_epochs": 9, "crop_size": 64}


class Clouds:
    options = (Option("lambda_A", 10.0, "cycle"), Option("beta", 2.0, "50 % of it"))

    @classmethod
    def defaults(cls, chosen: Any) -> dict[str, Any]:
        del chosen
        return {"norm": "batch", "dataset_mode": "tiled"}


class Loose:
    options: tuple[Option, ...] = ()

    @classmethod
    def defaults(cls, chosen: Any) -> dict[str, Any]:
        del chosen
        return {}


class Tiled(Loose):
    options = (Option("tile", 32, "side", minimum=1),)

    @classmethod
    def defaults(cls, chosen: Any) -> dict[str, Any]:
        return {"load_size": 4 * chosen.get("tile", 75)}


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry[Any]:
    """Small stand-ins for the real models and datasets, in an empty working folder."""
    models: Registry[Any] = Registry("model", "--model", {"broken": "no_such_package:Model"})
    models.register("cclgan")(Streaks)
    models.register("clouds")(Clouds)
    datasets: Registry[Any] = Registry("dataset", "--dataset_mode", {})
    datasets.register("unaligned")(Loose)
    datasets.register("tiled")(Tiled)
    monkeypatch.setattr("models.MODELS", models)
    monkeypatch.setattr("data.DATASETS", datasets)
    monkeypatch.chdir(tmp_path)
    return models


def train(*flags: str) -> Options:
    return parse_train(["--dataroot", "photos", *flags])


def refusal(*flags: str) -> str:
    """The message with which training refuses ``flags``: always one line that ends like a sentence."""
    with pytest.raises(UserError) as caught:
        train(*flags)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


# Precedence


def test_a_declared_default_holds_if_nobody_says_otherwise() -> None:
    assert train().lr == 2e-4


def test_a_model_default_wins_over_the_declared_one() -> None:
    assert (train().n_epochs, train().crop_size) == (9, 64)


def test_a_model_default_depends_on_the_preset_of_the_command_line() -> None:
    opt = train("--mode", "Fast")
    assert (opt.n_epochs, opt.alpha) == (3, 7.0)


def test_a_model_default_depends_on_the_preset_of_the_config() -> None:
    Path("c.yaml").write_text("mode: fast\n", encoding="utf-8")
    assert train("--config", "c.yaml").n_epochs == 3


def test_a_dataset_default_depends_on_its_own_options() -> None:
    assert train("--dataset_mode", "tiled", "--tile", "80").load_size == 320


def test_a_model_may_prefer_a_dataset() -> None:
    opt = train("--model", "clouds")
    assert (opt.dataset_mode, opt.tile, opt.load_size) == ("tiled", 32, 300)


def test_config_wins_over_model_and_command_line_over_config() -> None:
    Path("c.yaml").write_text("n_epochs: 5\nlr: 2e-3\n", encoding="utf-8")
    opt = train("--config", "c.yaml", "--lr", "0.5")
    assert (opt.n_epochs, opt.lr) == (5, 0.5)


def test_config_may_choose_the_model_and_its_options() -> None:
    Path("c.yaml").write_text("model: clouds\nlambda_A: 3\n", encoding="utf-8")
    opt = train("--config", "c.yaml")
    assert (opt.model, opt.lambda_A) == ("clouds", 3.0)


def test_given_names_what_config_and_command_line_set() -> None:
    Path("c.yaml").write_text("n_epochs: 5\n", encoding="utf-8")
    assert train("--config", "c.yaml", "--seed", "0").given == {"dataroot", "config", "n_epochs", "seed"}


def test_of_a_repeated_flag_the_last_one_counts() -> None:
    assert train("--lr", "1", "--lr", "2").lr == 2


def test_argv_defaults_to_the_command_line_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--dataroot", "x", "--seed", "4"])
    assert parse_train().seed == 4


def test_testing_takes_whole_images_whatever_the_model_trains_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streaks, "defaults", classmethod(lambda cls, chosen: {"preprocess": "crop", "batch_size": 8}))
    opt = parse_test(["--dataroot", "x"])
    assert (opt.preprocess, opt.no_flip, opt.batch_size, opt.num_test, opt.eval) == ("none", True, 1, None, True)


def test_training_defaults_of_a_model_mean_nothing_to_testing() -> None:
    assert not hasattr(parse_test(["--dataroot", "x"]), "n_epochs")


# norm


def test_norm_sets_both_norms() -> None:
    opt = train("--norm", "batch")
    assert (opt.normG, opt.normD, opt.norm) == ("batch", "batch", None)
    assert {"normG", "normD"} <= opt.given


def test_norm_leaves_alone_what_is_given_beside_it() -> None:
    opt = train("--norm", "batch", "--normD", "none")
    assert (opt.normG, opt.normD) == ("batch", "none")


def test_norm_on_the_command_line_wins_over_single_norms_in_the_config() -> None:
    Path("c.yaml").write_text("normG: none\n", encoding="utf-8")
    assert train("--config", "c.yaml", "--norm", "batch").normG == "batch"


def test_norm_may_be_a_model_default() -> None:
    assert train("--model", "clouds").normG == "batch"


# Forms of values


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (["--no_flip"], True),
        (["--no_flip", "true"], True),
        (["--no_flip", "False"], False),
        (["--no_flip=no"], False),
        ([], False),
    ],
)
def test_a_switch_takes_a_value_or_none(flags: list[str], value: bool) -> None:
    assert train(*flags).no_flip is value


def test_a_switch_that_is_on_can_be_turned_off() -> None:
    assert train("--no_dropout", "false").no_dropout is False


def test_a_switch_does_not_swallow_the_next_flag() -> None:
    opt = train("--no_flip", "--lr", "1")
    assert (opt.no_flip, opt.lr) == (True, 1.0)


@pytest.mark.parametrize(("typed", "stored"), [("unet_256", "unet_256"), ("UNET_256", "unet_256")])
def test_case_does_not_matter_in_choices(typed: str, stored: str) -> None:
    assert train("--netG", typed).netG == stored


def test_a_choice_is_stored_as_declared() -> None:
    assert train("--direction", "BTOA", "--mode", "fast", "--model", "CCLGAN").mode == "Fast"


@pytest.mark.parametrize("part", ["F", "ast", "Slow, Fast", ""])
def test_part_of_a_choice_is_no_choice(part: str) -> None:
    message = refusal("--mode", part)
    assert message.startswith(f"--mode: '{part}' is not a choice") and message.endswith("choose from Slow, Fast.")


def test_no_choices_are_declared_as_one_string() -> None:
    choices = [option.choices for option in (*TRAIN.options, *TEST.options) if option.choices]
    assert choices and all(isinstance(words, tuple) and len(words) > 1 for words in choices)


@pytest.mark.parametrize(("text", "limit"), [("inf", None), ("all", None), ("7", 7)])
def test_a_limit_of_images_may_be_infinite(text: str, limit: int | None) -> None:
    assert train("--max_dataset_size", text).max_dataset_size == limit


@pytest.mark.parametrize(("text", "value"), [("-1", "-1"), ("0, 1", "0,1"), ("AUTO", "auto")])
def test_gpu_ids_stay_text(text: str, value: str) -> None:
    assert train("--gpu_ids", text).gpu_ids == value


# Refusals


def test_a_misspelled_flag_gets_a_suggestion() -> None:
    assert "--n_epoch: there is no such option (did you mean 'n_epochs'?)" in refusal("--n_epoch", "5")


def test_a_flag_with_hyphens_gets_a_suggestion() -> None:
    assert "did you mean 'batch_size'?" in refusal("--batch-size=4")


def test_a_flag_of_the_chosen_model_with_hyphens_gets_a_suggestion() -> None:
    assert "did you mean 'lambda_A'?" in refusal("--model", "clouds", "--lambda-A", "3")


def test_flags_are_not_abbreviated() -> None:
    assert "--datar: there is no such option" in refusal("--datar", "x")


def test_a_flag_of_another_model_says_whose_it_is() -> None:
    assert refusal("--lambda_A", "5").startswith("--lambda_A: belongs to --model clouds")


def test_a_flag_of_another_dataset_says_whose_it_is() -> None:
    assert refusal("--tile", "5").startswith("--tile: belongs to --dataset_mode tiled")


def test_a_flag_of_the_other_program_says_whose_it_is() -> None:
    with pytest.raises(UserError, match=r"--lr: is an option of train\.py, not of test\.py"):
        parse_test(["--dataroot", "x", "--lr", "1"])


def test_an_unknown_model_gets_a_suggestion() -> None:
    assert "--model cloud: no such model (did you mean 'clouds'?)" in refusal("--model", "cloud")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lr", "fast"], "--lr: 'fast' is not a number"),
        (["--lr", "0"], "--lr: 0.0 is too small; it must be above 0"),
        (["--lr", "nan"], "--lr: nan is not a finite number"),
        (["--lr", "inf"], "--lr: inf is not a finite number"),
        (["--batch_size", "0"], "--batch_size: 0 is too small; it must be at least 1"),
        (["--batch_size", "1.5"], "--batch_size: '1.5' is not a whole number"),
        (["--max_dataset_size", "0"], "--max_dataset_size: 0 is too small"),
        (["--max_dataset_size", "few"], "--max_dataset_size: 'few' is neither"),
        (["--width", "0"], "--width: 0 is too small"),
        (["--no_flip", "maybe"], "--no_flip: 'maybe' is neither true nor false"),
        (["--netG", "unet_265"], "did you mean 'unet_256'?"),
        (["--gpu_ids", "one"], "--gpu_ids: 'one' is neither"),
        (["--beta1", "1"], "--beta1: '1' is outside [0, 1)"),
        (["--display_port", "70000"], "--display_port: '70000' is not a port"),
        (["--epoch", "../5"], "--epoch: '../5' may hold only"),
        (["--lr"], "--lr: expected one argument"),
        (["stray"], "'stray' follows no flag"),
        (["--name", "my", "run"], "'run' follows no flag"),
        (["--crop_size", "300"], "--crop_size 300 is larger than --load_size 286"),
        (["--n_epochs", "0", "--n_epochs_decay", "0"], "--n_epochs and --n_epochs_decay are both 0"),
        (["--gan_mode", "wgangp", "--norm", "batch"], "--gan_mode wgangp penalizes"),
        (["--dataroot", ""], "--dataroot is missing"),
        (["--config", "none.yaml"], "none.yaml: there is no such options file"),
        (["--continue_train", "--name", "gone"], "--continue_train: there is no run in"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(flags: list[str], words: str) -> None:
    assert words in refusal(*flags)


def test_decay_alone_is_a_training() -> None:
    assert train("--n_epochs", "0", "--n_epochs_decay", "1").n_epochs == 0


def test_a_crop_may_be_as_large_as_the_load_size() -> None:
    assert train("--crop_size", "286").crop_size == 286


def test_a_crop_without_resizing_may_exceed_the_load_size() -> None:
    assert train("--preprocess", "crop", "--crop_size", "300").crop_size == 300


def test_a_mistake_is_exit_code_2_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @entry_point
    def main(argv: Sequence[str] | None = None) -> None:
        train("--lr", "x")

    assert (main([]), capsys.readouterr().err) == (2, "error: --lr: 'x' is not a number.\n")


def test_a_missing_dataroot_is_told() -> None:
    with pytest.raises(UserError, match="--dataroot is missing"):
        parse_train([])


def test_a_model_default_for_an_unknown_option_is_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streaks, "defaults", classmethod(lambda cls, chosen: {"n_epoch": 1}))
    with pytest.raises(AssertionError, match="n_epoch"):
        train()


def test_an_option_that_exists_already_is_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streaks, "options", (Option("lr", 1.0, "again"),))
    with pytest.raises(AssertionError, match="exists already"):
        train()


# Help


def help_of(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse_train(["--help", *flags])
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_has_headings_and_the_model_s_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "--model", "clouds")
    for heading in ("paths and run:", "networks:", "data:", "training:", "display:", "model clouds:", "dataset tiled:"):
        assert heading in text
    assert "50 % of it (default: 2.0)" in text and "--alpha" not in text


def test_help_shows_the_defaults_of_the_chosen_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a weight (default: 7.0)" in help_of(capsys, "--mode", "fast")


def test_help_lists_the_registered_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--model {broken,cclgan,clouds}" in help_of(capsys)


# Names


def test_a_suffix_is_filled_in_with_options() -> None:
    opt = train("--name", "rain", "--suffix", "{model}_{netG}_size{load_size}")
    assert (opt.name, opt.suffix) == ("rain_cclgan_resnet_9blocks_size286", "")


def test_a_suffix_without_braces_is_appended() -> None:
    assert train("--name", "rain", "--suffix", "two").name == "rain_two"


def test_paths_in_a_suffix_make_no_folders() -> None:
    assert train("--name", "rain", "--suffix", "{dataroot}", "--dataroot", "/a/../b").name == "rain_a-..-b"


@pytest.mark.parametrize("suffix", ["{lr.__class__}", "{lr!r}", "{lr:9}", "{0[x]}", "{", "{}", "{{lr}}"])
def test_a_suffix_can_do_nothing_but_fill_in(suffix: str) -> None:
    assert refusal("--suffix", suffix).startswith(f"--suffix {suffix}: ")


def test_an_unknown_name_in_a_suffix_gets_a_suggestion() -> None:
    assert "'{net_G}' names no option (did you mean 'netG'?)" in refusal("--suffix", "{net_G}")


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../x", "a/../../x", "/x", "\\x", "C:\\x", "C:x", "a\\..\\x", "a/.. /x", "a\nb"]
)
def test_a_name_stays_inside_the_checkpoints(name: str) -> None:
    assert "--name" in refusal("--name", name)


def test_a_name_may_be_a_folder_in_a_folder() -> None:
    assert train("--name", "rain/first").name == "rain/first"


# Plugins


PLUGIN = """
import models
from util.option import Option, Scope
class Mist:
    options = (Option("density", 0.5, "of the mist"),)
    @classmethod
    def defaults(cls, chosen):
        return {}
models.MODELS.register("mist")(Mist)
"""


@pytest.fixture
def plugin_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "mist_plugin.py"
    file.write_text(PLUGIN, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "mist_plugin", raising=False)
    return file


def test_a_plugin_file_registers_a_model(plugin_file: Path) -> None:
    opt = train("--plugin", str(plugin_file), "--model", "mist", "--density", "2")
    assert (opt.density, opt.plugin) == (2.0, (str(plugin_file),))


def test_a_plugin_may_be_a_module(plugin_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plugin_file.parent)
    assert train("--plugin", "mist_plugin", "--model", "mist").density == 0.5


def test_a_plugin_that_only_a_file_names_is_not_run(plugin_file: Path) -> None:
    plugin_file.write_text("raise SystemExit('executed')", encoding="utf-8")
    Path("c.yaml").write_text(f"plugin: ['{plugin_file}', other]\nmodel: mist\n", encoding="utf-8")
    for confirmed, left in (((), f"{plugin_file},other"), (("--plugin", "other"), str(plugin_file))):
        message = refusal("--config", "c.yaml", *confirmed)
        assert message.startswith("'plugin' in c.yaml: ") and f"--plugin {left}, else" in message


def test_a_plugin_that_a_file_names_and_the_user_confirms_is_run(plugin_file: Path) -> None:
    Path("c.yaml").write_text(f"plugin: ['{plugin_file}']\nmodel: mist\n", encoding="utf-8")
    assert train("--config", "c.yaml", "--plugin", str(plugin_file)).density == 0.5
    Path("c.yaml").write_text("plugin: []\n", encoding="utf-8")
    assert train("--config", "c.yaml").plugin == ()


def test_plugins_add_up(plugin_file: Path) -> None:
    assert train("--plugin", str(plugin_file), "--plugin", "json,csv").plugin == (str(plugin_file), "json", "csv")


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ("none.py", "there is no such .py file"),
        ("no_such_module", "there is no module of that name"),
        ("json.no_such_module", "there is no module of that name"),
        ("two words", "is neither a .py file nor a module's name"),
        ("./my-plugin.py", "rename the file"),
    ],
)
def test_a_plugin_that_is_not_there_is_told(plugin: str, words: str) -> None:
    Path("my-plugin.py").touch()
    message = refusal("--plugin", plugin)
    assert message.startswith(f"--plugin {plugin}: ") and words in message


@pytest.mark.parametrize(("code", "words"), [("\n1 / 0\n", "(p_{}.py, line 2)"), ("def", "(p_{}.py, line 1)")])
def test_a_plugin_that_fails_is_told_with_the_line(plugin_file: Path, code: str, words: str) -> None:
    stem = "zero" if "1" in code else "syntax"
    (plugin_file.parent / f"p_{stem}.py").write_text(code, encoding="utf-8")
    assert refusal("--plugin", f"./p_{stem}.py").endswith(f"{words.format(stem)}; fix it.")


def test_a_plugin_cannot_take_another_module_s_name(plugin_file: Path) -> None:
    (plugin_file.parent / "json.py").touch()
    assert "another module is already called 'json'" in refusal("--plugin", "./json.py")


# No side effects, and what comes out


def test_parsing_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, handlers, path = dict(os.environ), list(logging.getLogger().handlers), [*sys.path]
    train("--name", "rain", "--gpu_ids", "3")
    parse_test(["--dataroot", "x", "--name", "rain"])
    assert not list(tmp_path.iterdir())
    assert (dict(os.environ), logging.getLogger().handlers, sys.path) == (environment, handlers, path)


def test_options_hold_nothing_but_options() -> None:
    own = {"mode", "alpha", "width"}
    assert vars(train()).keys() == {option.name for option in TRAIN.options} | own


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))])  # noqa: S301 - our own bytes
def test_options_can_be_copied_and_pickled(duplicate: Any) -> None:
    opt = train("--seed", "5")
    twin = duplicate(opt)
    assert isinstance(twin, argparse.Namespace) and vars(twin) == vars(opt)
    assert (twin.given, twin.command) == (opt.given, "python train.py --dataroot photos --seed 5")


def test_saved_options_parse_to_the_same_options(tmp_path: Path) -> None:
    opt = train("--mode", "fast", "--norm", "batch", "--max_dataset_size", "3", "--lr", "1e-7", "--suffix", "{lr}")
    save_options(opt, tmp_path / "o.yaml")
    again = parse_train(["--config", str(tmp_path / "o.yaml")])
    assert {**vars(again), "config": None} == vars(opt)


@pytest.mark.parametrize(("flag", "largest"), [("seed", 2**31 - 1), ("num_threads", 1024), ("load_size", 65535)])
def test_a_number_beyond_its_maximum_is_refused(flag: str, largest: int) -> None:
    assert getattr(train(f"--{flag}", str(largest)), flag) == largest
    assert refusal(f"--{flag}", str(largest + 1)) == (
        f"--{flag}: {largest + 1} is too large; it must be at most {largest}."
    )
