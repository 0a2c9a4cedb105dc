"""Our networks have the keys and shapes of CUT's and CycleGAN's and compute what those compute.

The expected numbers were measured on the original code; tests/fixtures/README.md says how.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.losses import PatchNCELoss
from models.networks import PatchSampler, create_discriminator, create_generator, create_sampler

FIXTURES = Path(__file__).parent / "fixtures"
SAMPLES = 50
TOLERANCE = 1e-10  # float64; the order of summation differs between machines
HASH_FACTORS = (2654435761, 2246822519)


def load(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


RESNETS, UNETS, DISCRIMINATORS, SAMPLER = map(load, ("resnet", "unet", "discriminators", "sampler"))
GENERATORS = RESNETS | UNETS


def noise(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The fixtures' u(key, i): an integer hash mapped to [-1, 1)."""
    low_bits = np.uint64(2**32 - 1)
    x = (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(zlib.crc32(key.encode()))) & low_bits
    for factor in HASH_FACTORS:
        x = (x * np.uint64(factor)) & low_bits
        x ^= x >> np.uint64(15)
    return (x / 2**31 - 1).reshape(shape)


def parameter(key: str, shape: tuple[int, ...]) -> np.ndarray:
    u = noise(key, shape)
    if key.endswith("running_var"):
        return 1 + 0.5 * u
    if key.endswith("running_mean"):
        return 0.3 * u
    if key.endswith("bias"):
        return 0.1 * u
    if len(shape) == 1:
        return 0.5 + 0.2 * u
    return u * math.sqrt(3 / math.prod(shape[1:]))


def checkpoint(case: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict that the original network had when the case was measured."""
    state = {}
    for key, shape in case["keys"].items():
        if key.endswith("filt"):
            state[key] = torch.tensor(case["filters"][key], dtype=torch.float64).expand(shape)
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
        else:
            state[key] = torch.from_numpy(parameter(key, tuple(shape)))
    return state


def image(case: dict[str, Any]) -> Tensor:
    return torch.from_numpy(noise("input", tuple(case["input"])))


def assert_measured(actual: Tensor, expected: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    assert list(actual.shape) == expected["shape"]
    flat = actual.detach().double().flatten()
    count = min(SAMPLES, flat.numel())
    positions = [k * flat.numel() // count for k in range(count)]
    assert flat[positions].tolist() == pytest.approx(expected["values"], rel=tolerance, abs=tolerance)
    assert flat.mean().item() == pytest.approx(expected["mean"], rel=tolerance, abs=tolerance)
    assert flat.abs().mean().item() == pytest.approx(expected["abs_mean"], rel=tolerance, abs=tolerance)


def shapes(network: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in network.state_dict().items()}


def loaded(network: nn.Module, case: dict[str, Any], dtype: torch.dtype = torch.float64) -> Any:
    """``network`` in eval mode with the case's weights."""
    network.to(dtype).load_state_dict(checkpoint(case), strict=True)
    return network.eval()


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_has_the_originals_keys_and_shapes(name: str) -> None:
    case = GENERATORS[name]
    assert shapes(create_generator(**case["config"])) == case["keys"]


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_computes_the_originals_image(name: str) -> None:
    case = GENERATORS[name]
    generator = loaded(create_generator(**case["config"]), case)
    with torch.no_grad():
        assert_measured(generator(image(case)), case["output"])


@pytest.mark.parametrize("name", ["resnet_9blocks instance down-antialiased up-antialiased", "unet_128 instance"])
def test_float32_is_close_to_the_originals_float64(name: str) -> None:
    case = GENERATORS[name]
    generator = loaded(create_generator(**case["config"]), case, torch.float32)
    with torch.no_grad():
        assert_measured(generator(image(case).float()), case["output"], tolerance=5e-5)


@pytest.mark.parametrize("name", RESNETS)
def test_integer_layers_are_the_originals_features(name: str) -> None:
    case = RESNETS[name]
    generator = loaded(create_generator(**case["config"]), case)
    with torch.no_grad():
        features = generator.encode(image(case), list(case["features"]))
    for feature, expected in zip(features, case["features"].values(), strict=True):
        assert_measured(feature, expected)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_has_the_originals_keys_and_shapes(name: str) -> None:
    case = DISCRIMINATORS[name]
    assert shapes(create_discriminator(**case["config"])) == case["keys"]


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_computes_the_originals_logits(name: str) -> None:
    case = DISCRIMINATORS[name]
    discriminator = loaded(create_discriminator(**case["config"]), case)
    with torch.no_grad():
        assert_measured(discriminator(image(case)), case["output"])


@pytest.mark.parametrize("cases", [GENERATORS, DISCRIMINATORS])
def test_blur_filters_are_the_originals_before_loading(cases: dict[str, Any]) -> None:
    compared = 0
    for case in cases.values():
        if not case["filters"]:
            continue
        create = create_generator if cases is GENERATORS else create_discriminator
        state = create(**case["config"]).state_dict()
        for key, filt in case["filters"].items():
            assert torch.equal(state[key], torch.tensor(filt).expand_as(state[key]))
            compared += 1
    assert compared > 0


class GivenFeatures(nn.Module):
    """Stands for a network whose features have the fixture's widths."""

    def encode(self, x: Tensor, taps: list[str]) -> list[Tensor]:
        return [x.new_zeros(shape) for shape in SAMPLER["sample"]["features"]]


def sampler_and_features(name: str, prefix: str = "feature") -> tuple[PatchSampler, list[Tensor], list[Tensor]]:
    case = SAMPLER[name]
    sampler = loaded(create_sampler(name, GivenFeatures(), ["0", "1", "2"], 3, embedding=case["embedding"]), case)
    features = [torch.from_numpy(noise(f"{prefix}{i}", tuple(shape))) for i, shape in enumerate(case["features"])]
    return sampler, features, [torch.tensor(index) for index in case["locations"]]


@pytest.mark.parametrize("name", SAMPLER)
def test_sampler_has_the_originals_keys_and_shapes(name: str) -> None:
    case = SAMPLER[name]
    sampler = create_sampler(name, GivenFeatures(), ["0", "1", "2"], 3, embedding=case["embedding"])
    assert shapes(sampler) == case["keys"]


@pytest.mark.parametrize("name", SAMPLER)
def test_sampler_computes_the_originals_embeddings(name: str) -> None:
    sampler, features, locations = sampler_and_features(name)
    for embedding, expected in zip(sampler(features, locations), SAMPLER[name]["outputs"], strict=True):
        assert_measured(embedding.flatten(0, 1), expected)


@pytest.mark.parametrize("name", SAMPLER)
def test_patch_nce_is_the_originals(name: str) -> None:
    sampler, features, locations = sampler_and_features(name)
    _, query_features, _ = sampler_and_features(name, "query")
    keys, queries = sampler(features, locations), sampler(query_features, locations)
    for expected in SAMPLER[name]["patch_nce"]:
        nce = PatchNCELoss(expected["temperature"], across_batch=expected["across_batch"])
        losses = [nce(query, key).item() for query, key in zip(queries, keys, strict=True)]
        # The original has one more candidate, of similarity -10: at τ = 0.07 it is nothing, at τ = 1 about 1e-6.
        assert losses == pytest.approx(expected["losses"], rel=1e-9 if expected["temperature"] < 0.5 else 1e-5)
