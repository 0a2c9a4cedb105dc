"""Recipes: several stages of training by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import train as train_program
from options import read_options
from options.recipe import recipe_commands
from tests.conftest import small_model_flags
from util.errors import EXIT_INTERRUPTED, UserError

SHORT = ("--n_epochs", "1", "--n_epochs_decay", "0", "--no_html", "--val_freq", "0", "--max_dataset_size", "2")


def train(dataset: Path, folder: Path, *flags: str, model: str = "cut") -> int:
    where = ["--dataroot", str(dataset), "--checkpoints_dir", str(folder)]
    return train_program.main([*where, *small_model_flags(model), *SHORT, *flags])


def state_of(run: Path) -> Any:
    return torch.load(run / "training_state.pth", weights_only=True)


def write(folder: Path, text: str) -> str:
    file = folder / "stages.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_stages_have_runs_of_their_own_and_start_from_the_one_before(tmp_path: Path) -> None:
    stages = "- {name: pairs, lr: 1.0e-3, config: base.yaml}\n- {netG: unet_256, init_from: null}\n- {n_epochs: 3}\n"
    commands = recipe_commands(["--name", "x", "--recipe", write(tmp_path, stages), "--seed", "7"])
    assert commands == [
        ("--lr=0.001", f"--config={tmp_path / 'base.yaml'}", "--name", "x", "--seed", "7", "--name", "x_pairs"),
        ("--netG=unet_256", "--name", "x", "--seed", "7", "--name", "x_2"),
        ("--n_epochs=3", "--init_from=x_2", "--name", "x", "--seed", "7", "--name", "x"),
    ]
    assert recipe_commands(["--name", "x"]) is None


def test_a_stage_may_continue_the_run_of_the_one_before(tmp_path: Path) -> None:
    stages = "- {name: a}\n- {lr: 2}\n- {continue_train: true, n_epochs: 9}\n"
    commands = recipe_commands(["--recipe", write(tmp_path, stages), "--name", "x"])
    assert [command[-1] for command in commands or ()] == ["x_a", "x", "x"]
    assert commands is not None and commands[2][:2] == ("--continue_train=true", "--n_epochs=9")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 1", "must be a list of stages"),
        ("[]", "must be a list of stages"),
        ("- 3", "must be a list of stages"),
        ("- {1: 2}", "must be a list of stages"),
        ("- {continue_train: true}", "nothing to continue"),
        ("- {plugin: other.py}", "give --plugin on the command line"),
        ("- {a: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        recipe_commands(["--recipe", write(tmp_path, text)])


def test_a_recipe_trains_its_stages_and_the_same_command_continues_it(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = "- {name: warm, lambda_NCE: 0, n_epochs: 1}\n- {lr: 1.0e-3, n_epochs: 1}\n"
    stages += "- {continue_train: true, n_epochs: 2}\n"
    flags = [flag for flag in SHORT if flag not in ("--n_epochs", "1")]
    where = ["--dataroot", str(dataset), "--checkpoints_dir", str(tmp_path), "--name", "x"]
    command = [*where, *small_model_flags("cut"), *flags, "--recipe", write(tmp_path, stages)]
    begun = 0

    def next_stage(argv: Any) -> Any:
        nonlocal begun
        begun += 1
        return main(argv) if begun != 2 else EXIT_INTERRUPTED

    main = train_program.main
    with monkeypatch.context() as patch:
        patch.setattr(train_program, "main", next_stage)
        assert main(command) == EXIT_INTERRUPTED
    assert not (tmp_path / "x").exists()
    assert train_program.main(command) == 0
    warm, x = state_of(tmp_path / "x_warm"), state_of(tmp_path / "x")
    assert warm["position"]["total_images"] == 2 and x["position"]["total_images"] == 4
    assert read_options(tmp_path / "x" / "options.yaml")["init_from"] == str(tmp_path / "x_warm")
