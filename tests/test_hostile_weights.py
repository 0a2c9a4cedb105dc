"""Files made to run code, offered as weights, as a training state, as options and as manifests, at every door.

A file that is read as a pickle, or as YAML with objects, would make the marker. None does; each is refused in one
sentence.
"""

from __future__ import annotations

import builtins
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import test as test_program
import train as train_program
from data.manifest import MANIFEST
from models.networks import create_generator
from scripts import doctor, evaluate, export, get_clip, prepare_dataset, synthesize_rain, web_demo
from tests.conftest import small_model_flags
from tests.hostile_commands import furnish, without_effort
from tests.hostile_world import World
from tests.test_semantic import TINY_CLIP
from util.engine.weights import save_nets

MARKER = "../marker"  # seen from the working folder
PROTOCOLS = (0, 2, 5)
SHARE = 5  # of the files, one in so many in the usual run; each door has others
TAGS = ("object/apply:os.system ['touch ../marker']", "object/new:os.system ['touch ../marker']",
        "object/apply:builtins.open ['../marker', 'w']", "name:os.system", "module:os")  # fmt: skip


class Trap:
    """Calls a function as soon as it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


TRAPS = {
    "open": Trap(builtins.open, MARKER, "w"),
    "system": Trap(os.system, f"touch {MARKER}"),
    "eval": Trap(builtins.eval, f"open({MARKER!r}, 'w')"),
}


def as_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def as_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_script(content: Any, path: Path) -> None:
    """A TorchScript archive, which is a program; beside its own pickles it holds the trap's."""
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(path), _extra_files={"data.pkl": pickle.dumps(content)})


def as_pickle(protocol: int) -> Callable[[Any, Path], None]:
    def write(content: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(content, protocol))

    return write


FORMS: dict[str, Callable[[Any, Path], None]] = {
    "zip": as_zip,
    "legacy": as_legacy,
    "script": as_script,
    **{f"pickle {protocol}": as_pickle(protocol) for protocol in PROTOCOLS},
}


def malicious() -> list[Callable[[Path], None]]:
    """What writes every trap in every form, alone and hidden among tensors."""
    hidden = [{"model.1.weight": torch.zeros(1), "trap": trap} for trap in TRAPS.values()]
    contents = [*TRAPS.values(), *hidden]
    return [partial(write, content) for content in contents for write in FORMS.values()]


@pytest.fixture
def furnished(world: World) -> World:
    """The folders of all commands, and a run whose state, networks and options are sound."""
    furnish(world.root)
    run = world.root / "checkpoints" / "run"
    (run / "options.yaml").write_text("model: cut\nnetG: resnet_6blocks\nngf: 1\ndataroot: ../data\n", encoding="utf-8")
    save_nets({"G": create_generator("resnet_6blocks", 3, 3, 1)}, run, "best_psnr")
    return world


TRAIN = ("--dataroot", "../data", *small_model_flags("cut"), "--ngf", "1", "--ndf", "1", "--no_html")
TEST = ("--dataroot", "../data", "--results_dir", "../out", "--gpu_ids", "-1")
RUN = ("--name", "run", "--checkpoints_dir", "../checkpoints")
SEMANTIC = (*TRAIN, "--model", "cclgan", "--checkpoints_dir", "../out", "--semantic_encoder")

CONTINUE = (*TRAIN, *RUN, "--continue_train")
CLIP = (*SEMANTIC, "clip", "--clip_model", "tiny", "--clip_pretrained")
LPIPS = ("--results", "../rainy", "--gt", "../clean", "--out", "../out/table", "--metrics", "lpips", "--lpips_weights")
STATE, BEFORE, LATEST = (
    f"checkpoints/run/{name}.pth" for name in ("training_state", "training_state.previous", "latest_net_G")
)

Main = Callable[..., int]
DOORS: dict[str, tuple[Main, tuple[str, ...], str]] = {
    "test.py --name": (test_program.main, (*TEST, *RUN), LATEST),
    "test.py --epoch": (test_program.main, (*TEST, *RUN, "--epoch", "7"), "checkpoints/run/7_net_G.pth"),
    "test.py --checkpoint": (test_program.main, (*TEST, "--checkpoint", "../evil.pth"), "evil.pth"),
    "test.py --checkpoint .pt": (test_program.main, (*TEST, "--checkpoint", "../evil.pt"), "evil.pt"),
    "test.py --input": (test_program.main, ("--input", "../rainy", "--checkpoint", "../evil.pth"), "evil.pth"),
    "train.py --continue_train": (train_program.main, CONTINUE, STATE),
    "the state before": (train_program.main, CONTINUE, BEFORE),
    "train.py without a state": (train_program.main, CONTINUE, LATEST),
    "--clip_pretrained": (train_program.main, (*CLIP, "../evil.pt"), "evil.pt"),
    "--clip_pretrained .safetensors": (train_program.main, (*CLIP, "../evil.safetensors"), "evil.safetensors"),
    "--semantic_weights": (train_program.main, (*SEMANTIC, "vgg16", "--semantic_weights", "../evil.pth"), "evil.pth"),
    "--lpips_weights": (evaluate.main, (*LPIPS, "../evil.pth"), "evil.pth"),
    "export.py": (export.main, ("--checkpoint", "../evil.pth", "--out", "../out/net.onnx"), "evil.pth"),
    "web_demo.py": (web_demo.main, ("--checkpoint", "../evil.pth"), "evil.pth"),
    "get_clip.py": (get_clip.main, ("--clip_model", "tiny", "--clip_pretrained", "../evil.pt"), "evil.pt"),
}


def offer(world: World, door: str, make: Callable[[Path], None]) -> None:
    """Put a malicious file where a door leads, and open the door."""
    main, argv, place = DOORS[door]
    path = world.root / place
    path.unlink(missing_ok=True)
    make(path)
    said = world.call(main, *argv)
    assert not (world.root / "marker").exists(), "something was executed"
    assert said.code == 2, said
    assert path.name in said.errors[0] or "training_state.pth" in said.errors[0], said.errors


@pytest.fixture
def guarded(furnished: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """CLIP is small and random here; nothing else of the doors is changed."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", TINY_CLIP)
    monkeypatch.setattr(web_demo, "import_gradio", lambda uploads: None)
    return furnished


def test_the_traps_work(furnished: World) -> None:
    """Whoever unpickles one of these files does make the marker; else this file would show nothing."""
    for form in ("zip", "legacy", "pickle 2"):
        for trap in TRAPS.values():
            FORMS[form](trap, furnished.root / "evil.pth")
            if form.startswith("pickle"):
                pickle.loads((furnished.root / "evil.pth").read_bytes())  # noqa: S301 - that is the point
            else:
                torch.load(furnished.root / "evil.pth", weights_only=False)
            (furnished.root / "marker").unlink()


@pytest.mark.parametrize("share", [SHARE, pytest.param(1, marks=pytest.mark.heavy)], ids=["some", "all"])
@pytest.mark.parametrize("door", DOORS)
def test_a_malicious_file_executes_nothing(guarded: World, door: str, share: int) -> None:
    for make in malicious()[list(DOORS).index(door) % share :: share]:
        offer(guarded, door, make)
        guarded.empty()


def test_a_malicious_state_executes_nothing_in_the_doctor(guarded: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "checks_for", _checks_of_the_run)
        for name in ("training_state.pth", "latest_net_G.pth"):
            as_zip(TRAPS["open"], guarded.root / "checkpoints" / "run" / name)
        said = guarded.call(doctor.main, *RUN, codes=(1,))
    assert "training_state.pth" in said.out and "latest_net_G.pth" in said.out
    assert not (guarded.root / "marker").exists()


def _checks_of_the_run(args: Any) -> list[Any]:
    """The checks that open the files of a run."""
    from scripts._doctor import run
    from scripts._doctor.checks import Check
    from scripts._doctor.run import Request

    request = Request(args.dataroot, args.name, args.checkpoints_dir)
    return [
        Check("run", partial(run.check_run, request)),
        Check("networks", partial(run.check_networks, request)),
    ]


# ---- YAML ----

PREPARE = ("folder-pairs", "--source", "../rainy", "../clean", "--out", "../out/x")
SYNTHESIZE = ("--clean", "../clean", "--out", "../out/x", "--workers", "1")
OPTIONS = "checkpoints/run/options.yaml"

YAML_DOORS: dict[str, tuple[Main, tuple[str, ...], str]] = {
    "train.py --config": (train_program.main, (*TRAIN, "--config", "../evil.yaml"), "evil.yaml"),
    "test.py --config": (test_program.main, (*TEST, *RUN, "--config", "../evil.yaml"), "evil.yaml"),
    "test.py --name": (test_program.main, (*TEST, *RUN), OPTIONS),
    "test.py --checkpoint": (test_program.main, (*TEST, "--checkpoint", "../checkpoints/run"), OPTIONS),
    "train.py --continue_train": (train_program.main, CONTINUE, OPTIONS),
    "export.py": (export.main, (*RUN, "--out", "../out/net.onnx"), OPTIONS),
    "prepare_dataset.py": (prepare_dataset.main, PREPARE, f"out/x/{MANIFEST}"),
    "synthesize_rain.py": (synthesize_rain.main, SYNTHESIZE, f"out/x/{MANIFEST}"),
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("door", YAML_DOORS)
def test_yaml_that_asks_for_objects_makes_none(guarded: World, door: str, tag: str) -> None:
    main, argv, place = YAML_DOORS[door]
    path = guarded.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"lr: !!python/{tag}\n", encoding="utf-8")
    said = guarded.call(main, *argv)
    assert said.code == 2 and (path.name in said.errors[0] or str(path.parent.name) in said.errors[0]), said
    assert not (guarded.root / "marker").exists(), "something was executed"


@pytest.mark.parametrize("tag", TAGS)
def test_records_that_ask_for_objects_make_none(guarded: World, tag: str) -> None:
    """What best.yaml says is a remark, so a broken one is told and left out."""
    (guarded.root / "checkpoints" / "run" / "best.yaml").write_text(f"best: !!python/{tag}\n", encoding="utf-8")
    with without_effort():
        said = guarded.call(test_program.main, *TEST, *RUN, "--epoch", "best_psnr")
    assert said.code == 0 and "best.yaml does not tell how best_psnr was chosen" in said.err
    assert not (guarded.root / "marker").exists(), "something was executed"
