"""scripts/export.py: what other programs read computes what the PyTorch network computes, at every size."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.networks.factory import Generator
from models.networks.resnet import ResnetGenerator
from models.networks.resunet import ResidualUnetGenerator
from models.networks.unet import UnetGenerator
from scripts import export
from scripts._export import (
    FORMATS,
    SIZES,
    SMALLEST_SIDE,
    AnySize,
    check_packages,
    differences,
    metadata_of,
    mirrored,
    pictures,
    project_version,
    require_parity,
    the_network,
)
from util.errors import EXIT_USER_ERROR, UserError
from util.layers import pad_to_multiple

NETWORKS: dict[str, Callable[[], Generator]] = {
    "antialiased": lambda: ResnetGenerator(3, 3, 2, 1),
    "plain": lambda: ResnetGenerator(3, 3, 2, 1, antialias_down=False, antialias_up=False, dropout=True),
    "residual": lambda: ResnetGenerator(3, 3, 2, 1, norm="batch", residual=True),
    "gray": lambda: ResnetGenerator(1, 1, 2, 1, norm="none", antialias_up=False),
    "unet": lambda: UnetGenerator(3, 3, 2, 5, dropout=True),
    "residual_unet": lambda: UnetGenerator(3, 3, 2, 5, norm="batch", residual=True),
    "resunet": lambda: ResidualUnetGenerator(3, 3, 4, 1, norm="instance", residual=True, histogram=True),
}
SHAPES = ((1, SMALLEST_SIDE, SMALLEST_SIDE), (1, 64, 32), (1, 61, 47), (3, 33, 30), (2, 9, 100))
OPSET = 21  # of the plain network's file
METADATA = {"made_by": "tests", "version": "1", "name": "näme"}
ENDING = {name: each.suffixes[0] for name, each in FORMATS.items()}
RECORDED = [
    *(("torchscript", family) for family in NETWORKS),
    *(("torch_export", family) for family in ("unet", "resunet")),
    *(("onnx", family) for family in ("antialiased", "plain", "residual", "unet", "resunet")),
]

with_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in FORMATS["onnx"].packages),
    reason="needs the optional packages for ONNX",
)


def network_of(family: str) -> Generator:
    """In evaluation mode, with weights large enough that all of its layers matter."""
    torch.manual_seed(0)
    network = NETWORKS[family]()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval().requires_grad_(False)


def image(shape: tuple[int, int, int], channels: int) -> Tensor:
    count, height, width = shape
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The file of a format and family, made once."""
    folder = tmp_path_factory.mktemp("exported")

    def file(name: str, family: str) -> Path:
        path = folder / f"{family}{ENDING[name]}"
        if not path.exists():
            network = network_of(family)
            channels = 1 if family == "gray" else 3
            opset = OPSET if family == "plain" else None
            FORMATS[name].write(AnySize(network, network.stride).eval(), channels, path, METADATA, opset)
        return path

    return file


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network's file without a run; it tells its architecture itself."""
    torch.manual_seed(0)
    path = tmp_path / "small.pth"
    torch.save(ResnetGenerator(3, 3, 2, 6).state_dict(), path)
    return path


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13, 31, 32, 33, 100])
def test_positions_mirror_as_the_networks_padding_does(size: int) -> None:
    line = torch.arange(float(size)).view(1, 1, 1, size)
    padded, _ = pad_to_multiple(line.expand(1, 1, 32, size), 32)
    assert torch.equal(line[0, 0, 0][mirrored(size, 32, torch.device("cpu"))], padded[0, 0, 0])


@pytest.mark.parametrize(
    ("name", "family"),
    [pytest.param(*case, marks=with_onnx if case[0] == "onnx" else ()) for case in RECORDED],
)
def test_a_file_computes_what_the_network_computes(
    exported: Callable[[str, str], Path], name: str, family: str
) -> None:
    run, network = FORMATS[name].load(exported(name, family)), network_of(family)
    for shape in SHAPES:
        batch = image(shape, 1 if family == "gray" else 3)
        expected = network(batch).clamp(-1, 1)
        torch.testing.assert_close(run(batch), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [pytest.param("onnx", marks=with_onnx), "torch_export", "torchscript"])
def test_a_file_says_what_it_is(exported: Callable[[str, str], Path], name: str) -> None:
    assert metadata_of(exported(name, "unet")) == METADATA


@pytest.mark.parametrize("name", [pytest.param("onnx", marks=with_onnx), "torch_export", "torchscript"])
def test_a_file_names_no_file_of_this_machine(exported: Callable[[str, str], Path], name: str) -> None:
    path = exported(name, "unet")
    contents = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            contents = [archive.read(entry) for entry in archive.namelist()]
    places = [str(Path(export.__file__).parents[1]).encode(), str(Path(torch.__file__).parent).encode()]
    assert not any(place in content for content in contents for place in places)


@with_onnx
def test_onnx_has_names_for_what_may_vary(exported: Callable[[str, str], Path]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported("onnx", "unet")), providers=["CPUExecutionProvider"])
    found = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    assert found == {
        "rainy": ["batch", 3, "height", "width"],
        "derained": ["batch", 3, "height", "width"],
    }


@with_onnx
def test_opset_is_what_was_asked_for(exported: Callable[[str, str], Path]) -> None:
    import onnx

    imported = onnx.load(str(exported("onnx", "plain"))).opset_import
    assert [entry.version for entry in imported if not entry.domain] == [OPSET]


@with_onnx
@pytest.mark.parametrize("opset", [17, 1000])
def test_opsets_that_are_not_to_be_had_are_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(UserError, match=f"--opset {opset}: .* 18 to"):
        FORMATS["onnx"].write(AnySize(network_of("gray"), 4).eval(), 1, tmp_path / "x.onnx", METADATA, opset)


def test_torch_export_refuses_images_below_its_smallest(exported: Callable[[str, str], Path]) -> None:
    run = FORMATS["torch_export"].load(exported("torch_export", "unet"))
    with pytest.raises(RuntimeError, match=f">= {SMALLEST_SIDE}"):
        run(torch.zeros(1, 3, SMALLEST_SIDE - 1, 20))


def test_fp16_halves_the_weights_and_stays_near(tmp_path: Path) -> None:
    network = network_of("antialiased")
    (batch,) = pictures(3, [(1, 40, 33)])
    expected = network(batch).clamp(-1, 1)
    FORMATS["torchscript"].write(AnySize(network, 4, half=True).eval(), 3, tmp_path / "x.pt", METADATA, None)
    script: Any = FORMATS["torchscript"].load(tmp_path / "x.pt")
    assert {parameter.dtype for parameter in script.parameters()} == {torch.float16}
    output = script(batch)
    assert output.dtype == torch.float32
    assert 0 < (output - expected).abs().max() < 0.05


@pytest.mark.parametrize("output", [torch.zeros(1, 3, 8, 9), torch.full((1, 3, 8, 8), float("nan"))])
def test_another_size_or_no_number_is_no_parity(output: Tensor) -> None:
    found = differences(lambda batch: output, [torch.zeros(1, 3, 8, 8)], [torch.zeros(1, 3, 8, 8)])
    with pytest.raises(UserError, match=r"differs .* by up to inf gray levels \(1×3×8×8\)"):
        require_parity(found, "fp32")


def test_differences_are_the_largest_and_the_mean() -> None:
    gap = torch.tensor([0.0, 0.0, -0.4, 0.0]).view(1, 1, 2, 2)
    (found,) = differences(lambda batch: batch + gap, [torch.zeros(1, 1, 2, 2)], [torch.zeros(1, 1, 2, 2)])
    assert (found.largest, found.mean) == pytest.approx((0.4, 0.1))


@pytest.mark.parametrize("precision", SIZES)
def test_the_pictures_use_the_range(precision: str) -> None:
    for batch in pictures(3, SIZES[precision]):
        assert batch.abs().max() <= 1
        assert batch.std() > 0.2


def test_the_command_writes_the_file_and_prints_parity(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["--checkpoint", str(weights), "--format", "torchscript"]) == 0
    out = capsys.readouterr().out
    path = weights.with_suffix(".torchscript")
    assert path.is_file() and str(path) in out
    assert "1×3×61×75" in out and "2×3×90×47" in out and "gray levels" in out
    with zipfile.ZipFile(path) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("metadata.json")]
        metadata = json.loads(archive.read(entry))
    assert (metadata["netG"], metadata["ngf"], metadata["weights"]) == ("resnet_6blocks", "2", "small.pth")


def test_without_parity_the_old_file_stays_and_nothing_else(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault such as a picture moved by one pixel must not get out."""
    out = weights.with_name("old.ts")
    out.write_bytes(b"old")
    before = sorted(weights.parent.iterdir())
    faulty = replace(FORMATS["torchscript"], load=lambda path: lambda batch: batch.roll(1, dims=3))
    monkeypatch.setitem(export.FORMATS, "torchscript", faulty)  # type: ignore[misc]
    assert export.main(["--checkpoint", str(weights), "--out", str(out)]) == EXIT_USER_ERROR
    assert "no file is written" in capsys.readouterr().err
    assert out.read_bytes() == b"old" and sorted(weights.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out", "x.onxx"], "its ending must be one of .onnx, .pt2"),
        (["--out", "x.onnx", "--format", "torch_export"], "--format torch_export has the ending .pt2"),
        (["--format", "torch_export", "--opset", "18"], "--opset goes with --format onnx"),
        (["--format", "torch_export", "--checkpoint", "nosuchrun"], "--checkpoint nosuchrun: there is neither"),
        (["--format", "torch_export", "--checkpoint", "x", "--opsett", "1"], "--opsett"),
    ],
)
def test_mistakes_are_explained(
    flags: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints" / "x").mkdir(parents=True)
    assert export.main(flags) == EXIT_USER_ERROR
    assert words in capsys.readouterr().err


def test_the_networks_own_file_is_not_overwritten(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = weights.rename(weights.with_suffix(".pt"))
    content = path.read_bytes()
    assert export.main(["--checkpoint", str(path), "--out", str(path)]) == EXIT_USER_ERROR
    assert "is the network's own file" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_missing_packages_are_named_with_the_command() -> None:
    with pytest.raises(UserError, match=r"pip install nosuchpackage$"):
        check_packages("onnx", ("json", "nosuchpackage"))


def test_a_model_of_several_networks_is_refused() -> None:
    with pytest.raises(UserError, match=r"derains with 2 \(G, H\)"):
        the_network({"G": nn.Identity(), "H": nn.Identity()})


def test_the_version_is_the_projects(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "3.4.5"\n', encoding="utf-8")
    assert project_version(tmp_path) == "3.4.5"
    assert project_version(tmp_path / "elsewhere") == ""
