"""test.py --input and --checkpoint, as a user calls them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_program
from models.networks import create_discriminator, create_generator, generator_options
from options import parse_test
from util.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from util.names import SHIPPED
from util.pictures import Picture, read_picture, write_picture

SMALL_WIDTH = 4
RNG = np.random.default_rng(11)

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls test.py in ``tmp_path``; returns its exit code and all that it said."""
    monkeypatch.chdir(tmp_path)

    def run(*flags: str) -> tuple[int, str]:
        code = test_program.main(["--gpu_ids", "-1", *flags])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "street.png"
    write_picture(Picture(RNG.integers(0, 256, (21, 33, 3), np.uint8)), path)
    return path


def save_generator(path: Path, *, wrapped: bool = False, identity: bool = False, **settings: object) -> Path:
    """A generator's state dict alone, as CUT and CycleGAN write it; ``wrapped`` as DataParallel does."""
    torch.manual_seed(2)
    network = create_generator("resnet_6blocks", 3, 3, SMALL_WIDTH, **settings)  # type: ignore[arg-type]
    if identity:
        network.start_at_identity()
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = "module." if wrapped else ""
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
    return path


def save_run(folder: Path, dataset_mode: str = "unaligned") -> Path:
    """A run of a residual CUT generator, which is still the identity."""
    save_generator(folder / "latest_net_G.pth", residual=True, identity=True)
    lines = [
        "model: cut",
        "netG: resnet_6blocks",
        f"ngf: {SMALL_WIDTH}",
        "residual: true",
        f"dataset_mode: {dataset_mode}",
    ]
    (folder / "options.yaml").write_text("\n".join(lines), encoding="utf-8")
    return folder


ARCHITECTURES = [
    {"netG": "resnet_6blocks"},
    {"netG": "resnet_9blocks", "antialias_down": False, "antialias_up": False},
    {"netG": "resnet_6blocks", "norm": "batch", "dropout": True, "antialias_up": False},
    {"netG": "resnet_6blocks", "input_nc": 1, "output_nc": 1},
    {"netG": "unet_128"},
    {"netG": "unet_256", "norm": "batch"},
    {"netG": "resunet", "norm": "none"},
    {"netG": "resunet_histogram", "norm": "none"},
    {"netG": "resunet", "norm": "batch", "input_nc": 1, "output_nc": 1},
]


@pytest.mark.parametrize("settings", ARCHITECTURES, ids=str)
def test_a_file_tells_its_own_architecture(tmp_path: Path, settings: dict[str, object]) -> None:
    arguments = {"input_nc": 3, "output_nc": 3, "ngf": SMALL_WIDTH, **settings}
    name = str(arguments.pop("netG"))
    state = create_generator(name, **arguments).state_dict()  # type: ignore[arg-type]
    told = generator_options(state)
    again = create_generator(
        told["netG"],
        int(told["input_nc"]),
        int(told["output_nc"]),
        int(told["ngf"]),
        norm=told["normG"],
        dropout=told.get("no_dropout") == "false",
        antialias_down=told.get("no_antialias") != "true",
        antialias_up=told.get("no_antialias_up") != "true",
    ).state_dict()
    assert {key: value.shape for key, value in again.items()} == {key: value.shape for key, value in state.items()}
    assert told["netG"] == name


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_alone_derains(call: Call, tmp_path: Path, photo: Path, wrapped: bool) -> None:
    save_generator(tmp_path / "derain.pth", wrapped=wrapped, antialias_down=False, antialias_up=False)
    code, said = call("--input", str(photo), "--checkpoint", "derain.pth")
    assert code == 0, said
    assert Image.open(tmp_path / "results" / "derain" / "street" / "derained" / "street.png").size == (33, 21)


@pytest.mark.parametrize("flags", [("--checkpoint", "rain"), ("--name", "rain"), ("--checkpoint", "checkpoints/rain"),
                                   ("--checkpoint", "checkpoints/rain/latest_net_G.pth")])  # fmt: skip
def test_a_run_by_name_folder_or_file(call: Call, tmp_path: Path, photo: Path, flags: tuple[str, ...]) -> None:
    """The network is the identity, so the very picture comes back; the run's own dataset is not needed."""
    save_run(tmp_path / "checkpoints" / "rain", dataset_mode="somebody_elses")
    code, said = call("--input", "photos", *flags)
    assert code == 0, said
    result = tmp_path / "results" / "rain" / "photos" / "derained" / "street.png"
    np.testing.assert_array_equal(read_picture(result).pixels, read_picture(photo).pixels)
    assert (tmp_path / "results" / "rain" / "photos" / "index.html").is_file()
    assert re.search(r"derained 1 images in \d.*images/s, of which the network took \d+% of the time", said)


def test_tiles_of_an_identity_are_exact(call: Call, tmp_path: Path) -> None:
    save_run(tmp_path / "checkpoints" / "rain")
    before = Picture(RNG.integers(0, 65536, (90, 200, 3), np.uint16))
    write_picture(before, tmp_path / "deep.png")
    flags = ("--tile", "64", "--tile_overlap", "24", "--output", "out.png")
    assert call("--input", "deep.png", "--checkpoint", "rain", *flags)[0] == 0
    np.testing.assert_array_equal(read_picture(tmp_path / "out.png").pixels, before.pixels)
    assert not (tmp_path / "results").exists()


def test_the_place_that_is_told_is_the_file_that_was_written(call: Call, tmp_path: Path) -> None:
    save_run(tmp_path / "checkpoints" / "rain")
    Image.fromarray(RNG.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "wet.jpg")
    for name, written in (("dry.jpg", "dry.jpg"), ("dry.png", "dry.png.jpg")):
        code, said = call("--input", "wet.jpg", "--checkpoint", "rain", "--output", name)
        assert code == 0 and re.search(rf"results: .*{re.escape(written)}$", said, re.MULTILINE), said
        assert (tmp_path / written).is_file()


def test_another_generator_of_a_run_is_told(call: Call, tmp_path: Path, photo: Path) -> None:
    run = save_run(tmp_path / "checkpoints" / "rain")
    (run / "latest_net_G_B.pth").write_bytes((run / "latest_net_G.pth").read_bytes())
    code, said = call("--input", "photos", "--checkpoint", str(run / "latest_net_G_B.pth"))
    assert code == 0
    assert "tested with is latest_net_G.pth" in said


def test_a_file_of_another_network_is_told(call: Call, tmp_path: Path, photo: Path) -> None:
    torch.save(create_discriminator("basic", 3, 4).state_dict(), tmp_path / "D.pth")
    torch.save({"epoch": 3, "nets": {}}, tmp_path / "state.pth")
    for file, says in (("D.pth", "holds no generator"), ("state.pth", "not a single network's file")):
        code, said = call("--input", "photos", "--checkpoint", file)
        assert code == EXIT_USER_ERROR and says in said


MISTAKES = [
    (("--input", "photos", "--checkpoint", "rian"), "did you mean 'rain'"),
    (("--input", "photos", "--checkpoint", "photos"), "neither options.yaml nor networks"),
    (("--input", "photos", "--checkpoint", "../rain"), "would not be a folder inside"),
    (("--input", "photos", "--checkpoint", "photos/street.png"), "is not loaded|is damaged"),
    (("--input", "nowhere", "--checkpoint", "rain"), "no such file or folder"),
    (("--input", "photos", "--checkpoint", "rain", "--output", "photos"), "would replace an input"),
    (("--input", "photos", "--checkpoint", "rain", "--tile", "20"), "--tile 20"),
    (("--input", "photos", "--checkpoint", "rain", "--tile", "128", "--tile_overlap", "100"), "--tile_overlap 100"),
    (("--output", "out", "--checkpoint", "rain", "--dataroot", "photos"), "--output goes with --input"),
    (("--checkpoint", "rain"), "--dataroot is missing.*--input"),
]


def test_the_model_that_ships_has_a_name_unless_a_run_has_the_same(tmp_path: Path) -> None:
    for name in ("derain", "general"):
        flags = ["--input", "photos", "--checkpoint", name, "--checkpoints_dir", str(tmp_path)]
        assert parse_test(flags).checkpoint == str(SHIPPED)
        run = save_run(tmp_path / name)
        assert parse_test(flags).checkpoint == str(run)
    with pytest.raises(UserError, match="did you mean 'general'"):
        parse_test(["--input", "photos", "--checkpoint", "genral"])


def test_a_checkout_without_its_model_asks_for_one(
    call: Call, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("options.parse.SHIPPED", tmp_path / "absent")
    code, said = call("--input", "photos")
    assert code == EXIT_USER_ERROR and "--checkpoint is missing" in said


@pytest.mark.parametrize(("flags", "says"), MISTAKES, ids=[says for _, says in MISTAKES])
def test_mistakes_are_one_sentence(call: Call, tmp_path: Path, photo: Path, flags: tuple[str, ...], says: str) -> None:
    save_run(tmp_path / "checkpoints" / "rain")
    code, said = call(*flags)
    assert code == EXIT_USER_ERROR
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(says, errors[0]), said
    assert not (tmp_path / "results").exists()


def test_flags_of_data_sets_are_told_to_be_useless(call: Call, tmp_path: Path, photo: Path) -> None:
    save_run(tmp_path / "checkpoints" / "rain")
    code, said = call("--input", "photos", "--checkpoint", "rain", "--phase", "val")
    assert code == 0
    assert "--phase: without a meaning for --input" in said


def test_an_interruption_is_no_error(call: Call, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    save_run(tmp_path / "checkpoints" / "rain")
    monkeypatch.setattr("data.derain.pictures.Network.__call__", stop)
    assert call("--input", "photos", "--checkpoint", "rain")[0] == EXIT_INTERRUPTED


def test_amp_lets_the_machine_choose() -> None:
    flags = ("--dataroot", "d", "--name", "none")
    assert parse_test([*flags, "--amp"]).precision == "auto"
    assert parse_test([*flags, "--amp", "--precision", "bf16"]).precision == "bf16"
    assert parse_test(list(flags)).precision == "fp32"


def test_flags_win_over_what_a_file_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_generator(tmp_path / "g.pth")
    opt = parse_test(["--input", "x", "--checkpoint", str(path), "--ngf", "8", "--name", "mine"])
    assert (opt.ngf, opt.netG, opt.name) == (8, "resnet_6blocks", "mine")
    assert "--ngf 8 overrides" in caplog.text


def test_a_data_set_is_tested_with_a_checkpoint_too(call: Call, tmp_path: Path, dataset: Path) -> None:
    run = save_run(tmp_path / "checkpoints" / "rain")
    code, said = call("--dataroot", str(dataset), "--checkpoint", str(run))
    assert code == 0, said
    assert (tmp_path / "results" / "rain" / "test_latest" / "metrics.json").is_file()
