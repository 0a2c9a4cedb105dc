"""Every command with a command line that works, the flags that its parser knows, and what a user may do to them."""

from __future__ import annotations

import argparse
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from PIL import Image

import test as test_program
import train as train_program
from models.networks import create_generator
from options.flags import TEST, TRAIN, options_of
from scripts import (
    ablate,
    benchmark,
    compare,
    count_flops,
    demo,
    doctor,
    evaluate,
    export,
    get_clip,
    prepare_dataset,
    synthesize_rain,
    visdom_server,
    web_demo,
)
from tests.conftest import QUIET, SMALL_CCLGAN, SMALL_CROPS, write_rain_dataset
from tests.hostile_world import Main, World
from tests.test_compare import two_runs
from util.command_line import CommandLine
from util.engine.stop import Interrupt
from util.engine.weights import save_nets
from util.errors import EXIT_INTERRUPTED, UserError
from util.option import Option

TINY = ("--netG", "resnet_6blocks", "--ngf", "1")
STOPPED = EXIT_INTERRUPTED
MEMORY = 1024**3  # bytes that there are said to be
OUTPUTS = frozenset({"out", "output", "checkpoints_dir", "results_dir", "cache_dir", "json", "markdown", "env_path"})
"""Flags that name a place to write to."""

NUMBERS = ("-1", "0", "1", "-0", "1.5", "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "1e999", "2147483647",
           "2147483648", "99999999999999999999", "-99999999999999999999", "9" * 5000, "0x10", "1_0", "١", "1,2", "1e3",
           "65535", "1000000")  # fmt: skip
WHOLE = ("0", "1", "2", "3", "7", "16", "32", "37", "64", "65535", "1000000", "1000000000", "2147483647")
REAL = ("0", "0.0", "1", "0.5", "1.0", "1e-30", "1e-9", "3", "1e9", "1e38", "1e39", "1e300", "-0.0", "0.999999")
SWITCH = ("true", "false")
TEXTS = ("", " ", "-", "--", "---", "true", "False", "null", "none", "all", "[]", "{}", "é", "日本", "\u202e",
         "\udcff", "\n", "\x1b[31m", "%s", "%(prog)s", "{lr}", "{lr.__class__}", "{", "$HOME", "; touch x", "*",
         "=", "a=b", ",", "a" * 300, "a" * 100_000, "con", "a:b", "latest", "(", "[a-", "http://[", "@file",
         "0.0.0.0")  # fmt: skip
PATHS = ("../file.txt", "../file.txt/x", "../nowhere", "../nowhere/deep", "..", "../..", "../empty", "../data/trainA",
         "../wrong.yaml", "../objects.yaml", "../list.yaml", "../broken.pth", "~nobody-of-that-name/x", "x" * 256,
         "../data/trainA/rainy_0.png", "./././.", "../loop")  # fmt: skip
PLACES = ("../file.txt", "../file.txt/x", "../out", "../out/new", "../out/a/b/c", "../out/é\udcff",
          "../out/" + "n" * 255, "../out/" + "n" * 256, "../out/../out/x", "../out/ ", "../out/\n")  # fmt: skip


@dataclass(frozen=True)
class Flag:
    """One flag of a command, and values that it would take."""

    name: str
    sound: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A program, a command line with which it works, and its flags."""

    name: str
    main: Main
    base: tuple[str, ...]
    flags: tuple[Flag, ...]


class _Found(Exception):
    """The parser of a command."""


def flags_of(main: Main) -> tuple[Flag, ...]:
    """What the parser of a script knows."""

    def find(self: CommandLine, *_: Any) -> Any:
        raise _Found(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CommandLine, "parse_known_args", find)
        try:
            main([])
        except _Found as found:
            actions: Iterable[argparse.Action] = found.args[0]._actions
    return tuple(
        Flag(action.option_strings[-1].lstrip("-"), sound(action.type, action.choices))
        for action in actions
        if action.option_strings and not isinstance(action, argparse._HelpAction)
    )


def flags_from(options: Iterable[Option]) -> tuple[Flag, ...]:
    """Declared options as flags."""
    return tuple(
        Flag(option.name, SWITCH if option.is_switch else sound(option.converter(), option.choices))
        for option in options
    )


def sound(convert: Any, choices: Iterable[Any] | None) -> tuple[str, ...]:
    """Values that a parser lets through, whatever comes of them later."""
    return tuple(map(str, choices)) if choices else {int: WHOLE, float: REAL}.get(convert, ())


def training(model: str, *own: str) -> Command:
    """``train.py`` with a model, for one step."""
    base = ("--dataroot", "../data", "--checkpoints_dir", "../out", "--name", "run", "--model", model, *QUIET, *TINY,
            "--ndf", "1", *SMALL_CROPS, "--n_epochs", "1", "--n_epochs_decay", "0", "--no_html", *own)  # fmt: skip
    flags = flags_from((*TRAIN.options, *options_of("model", model)))
    return Command(f"train.py --model {model}", train_program.main, base, flags)


def commands() -> tuple[Command, ...]:
    """All of them; the folders are those of :func:`furnish`, seen from ``work`` beside them."""
    weights = ("--checkpoint", "../checkpoints/run/latest_net_G.pth")
    cpu = ("--gpu_ids", "-1")
    tested = ("--dataroot", "../data", "--checkpoints_dir", "../checkpoints", "--results_dir", "../out", *cpu)
    places = ("--results_dir", "../out", "--checkpoints_dir", "../out")
    scripts: dict[Any, tuple[str, ...]] = {
        evaluate: ("--results", "../rainy", "--gt", "../clean", "--out", "../out/table", "--workers", "1"),
        prepare_dataset: ("folder-pairs", "--source", "../rainy", "../clean", "--out", "../out/set"),
        synthesize_rain: ("--clean", "../clean", "--out", "../out/rain", "--workers", "1"),
        compare: ("../results/cut", "../results/cclgan/test_latest", "--out", "../out/page"),
        export: (*cpu, *weights, "--out", "../out/net.onnx"),
        ablate: ("table3", "--dataroot", "../data", *places, "--dry_run"),
        benchmark: (*cpu, "--models", "cut", "--modes", "fp32"),
        doctor: ("--dataroot", "../data", *places),
        count_flops: ("--", "--semantic_encoder", "efficientnet_lite0", *TINY, "--ndf", "1", *SMALL_CROPS),
        get_clip: (),
        visdom_server: (),
        web_demo: weights,
        demo: (),
    }
    return (
        training("cut"),
        training("cclgan", *SMALL_CCLGAN),
        training("cycle_gan"),
        Command(
            "test.py",
            test_program.main,
            (*tested, "--name", "run", "--model", "cut", *TINY),
            flags_from((*TEST.options, *options_of("model", "cut"))),
        ),
        *(
            Command(module.__name__.replace("scripts.", "") + ".py", module.main, base, flags_of(module.main))
            for module, base in scripts.items()
        ),
    )


def values_for(flag: Flag) -> st.SearchStrategy[str]:
    """What a user may write behind a flag."""
    if flag.name in OUTPUTS:
        return st.sampled_from(PLACES)
    wild = st.sampled_from((*NUMBERS, *TEXTS, *PATHS))
    return st.one_of(*[st.sampled_from(flag.sound)] * 3, wild) if flag.sound else wild


def command_lines(command: Command) -> st.SearchStrategy[tuple[str, ...]]:
    """A command line that works, and up to four flags more or again, a stray word, or an unknown flag."""

    def written(flag: Flag) -> st.SearchStrategy[tuple[str, ...]]:
        name, value = f"--{flag.name}", values_for(flag)
        joined, apart = value.map(lambda text: (f"{name}={text}",)), value.map(lambda text: (name, text))
        return st.one_of(joined, joined, apart, apart, apart, st.just((name,)))

    strange = st.sampled_from([("--no_such_flag",), ("stray",), ("--=x",), ("-x",), ("",), ("--lr_policy",), ("--",)])
    known = st.sampled_from(command.flags).flatmap(written) if command.flags else strange
    mostly = st.one_of(*[known] * 9, strange)
    return st.lists(mostly, min_size=1, max_size=4).map(lambda parts: (*command.base, *(w for p in parts for w in p)))


def furnish(root: Path) -> None:
    """Everything that the commands need, and things that they do not expect."""
    write_rain_dataset(root / "data", train_images=1)
    for name, source in (("rainy", "testA"), ("clean", "testB")):
        (root / "data" / source).joinpath("scene_1.png").unlink()
        with Image.open(root / "data" / source / "scene_0.png") as image:
            (root / name).mkdir()
            image.save(root / name / "scene.png")
    two_runs(root)
    save_nets({"G": create_generator("resnet_6blocks", 3, 3, 1)}, _made(root / "checkpoints" / "run"), "latest")
    (root / "empty").mkdir()
    (root / "loop").symlink_to("loop")
    texts = {"file.txt": "text", "wrong.yaml": "lr: [1, {", "list.yaml": "- 1\n- 2\n", "broken.pth": "PK\x03\x04 no",
             "objects.yaml": "lr: !!python/object/apply:os.system ['touch ../marker']\n"}  # fmt: skip
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def without_effort() -> Iterator[None]:
    """No network, one step of training, and nothing that serves, exports, measures or installs for minutes."""

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def refuse(*_: Any, **__: Any) -> Any:
        raise UserError("this far and no further.")

    def offline(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("no network")

    nothing: Callable[..., Any] = lambda *_, **__: None  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", offline)
        patch.setattr("torch.compile", lambda function: function)
        patch.setattr("open_clip.create_model", refuse)
        patch.setattr("options.memory_check.whole_memory", lambda device: MEMORY)
        patch.setattr(Interrupt, "requested", property(lambda self: True))
        patch.setattr(benchmark, "time_steps", refuse)
        patch.setattr(benchmark, "load_warning", nothing)
        patch.setattr(export, "export", refuse)
        patch.setattr(doctor, "checks_for", lambda args: [])
        patch.setattr(visdom_server, "prepare_page", refuse)
        for name in ("import_gradio", "build_page"):
            patch.setattr(web_demo, name, nothing)
        patch.setattr(web_demo, "serve", stop)
        patch.setattr(web_demo.signal, "signal", nothing)
        patch.setattr(demo._bootstrap, "ensure", refuse)
        yield


def check_marker(world: World) -> None:
    """Nothing of a file was executed."""
    assert not (world.root / "marker").exists()
