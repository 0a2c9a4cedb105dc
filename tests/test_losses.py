"""Losses against slow explicit formulas, analytic values and PyTorch's own losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.losses import GAN_MODES, GANLoss, InterCycleContrast, IntraCycleContrast, PatchNCELoss

BATCHES = [1, 2, 3]
PATCHES = [1, 5, 7]
EPSILON = 1e-7  # in the denominators of both cycle losses


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randn(*shape: int, grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def l1(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of two vectors, element by element."""
    return sum(abs(x - y) for x, y in zip(a.tolist(), b.tolist(), strict=True)) / len(a)


def exactly(expected: float) -> Any:
    """Equal but for float64's rounding."""
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# Adversarial -------------------------------------------------------------------------------------

POINTWISE: dict[str, dict[str, Callable[[float], float]]] = {
    "lsgan": {"real": lambda d: (d - 1) ** 2, "fake": lambda d: d**2, "fool": lambda d: (d - 1) ** 2},
    "vanilla": {
        "real": lambda d: -math.log(1 / (1 + math.exp(-d))),
        "fake": lambda d: -math.log(1 - 1 / (1 + math.exp(-d))),
        "fool": lambda d: -math.log(1 / (1 + math.exp(-d))),
    },
    "hinge": {"real": lambda d: max(0.0, 1 - d), "fake": lambda d: max(0.0, 1 + d), "fool": lambda d: -d},
    "wgangp": {"real": lambda d: -d, "fake": lambda d: d, "fool": lambda d: -d},
}


def test_every_mode_has_a_formula() -> None:
    assert set(GAN_MODES) == set(POINTWISE)


@pytest.mark.parametrize("count", BATCHES)
@pytest.mark.parametrize("role", ["real", "fake", "fool"])
@pytest.mark.parametrize("mode", GAN_MODES)
def test_gan_loss_is_the_mean_of_its_formula(mode: str, role: str, count: int) -> None:
    logits = 2 * randn(count, 1, 5, 3)
    expected = mean([POINTWISE[mode][role](logit) for logit in logits.flatten().tolist()])
    assert getattr(GANLoss(mode), role)(logits).item() == exactly(expected)


@pytest.mark.parametrize(("mode", "reference"), [("lsgan", nn.MSELoss()), ("vanilla", nn.BCEWithLogitsLoss())])
@pytest.mark.parametrize(("role", "target"), [("real", 1.0), ("fake", 0.0), ("fool", 1.0)])
def test_gan_loss_is_pytorchs(mode: str, reference: nn.Module, role: str, target: float) -> None:
    logits = 2 * randn(3, 1, 5, 3)
    torch.testing.assert_close(getattr(GANLoss(mode), role)(logits), reference(logits, torch.full_like(logits, target)))


def test_vanilla_stays_finite_for_confident_discriminators() -> None:
    logits = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = GANLoss("vanilla").real(logits)
    loss.backward()
    assert loss.item() == pytest.approx(100)
    assert logits.grad is not None and logits.grad.flatten().tolist() == pytest.approx([-0.5, 0])


class Linear(nn.Module):
    """D(x) = w · x, whose gradient is w at every point."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight * x).flatten(1).sum(dim=1)


@pytest.mark.parametrize("count", BATCHES)
def test_penalty_of_a_linear_discriminator_is_analytic(count: int) -> None:
    weight = randn(3, 4, 5)
    discriminator = Linear(weight.clone())
    penalty = GANLoss("wgangp").penalty(discriminator, randn(count, 3, 4, 5), randn(count, 3, 4, 5))
    norm = weight.square().sum().sqrt()
    torch.testing.assert_close(penalty, 10 * (norm - 1) ** 2)
    penalty.backward()
    torch.testing.assert_close(discriminator.weight.grad, 20 * (norm - 1) * weight / norm)


def test_penalty_is_taken_between_real_and_fake() -> None:
    """D(x) = ‖x‖² / 2 has the gradient x, so the points can be told from the penalty and were drawn per image."""
    seen: list[Tensor] = []

    def discriminator(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().flatten(1).sum(dim=1) / 2

    real, fake = randn(3, 2, 4, 4), randn(3, 2, 4, 4)
    penalty = GANLoss("wgangp").penalty(discriminator, real, fake)
    norms = [point.square().sum().sqrt().item() for point in seen[0]]
    assert penalty.item() == exactly(mean([10 * (norm - 1) ** 2 for norm in norms]))
    shares = ((seen[0] - fake) / (real - fake)).flatten(1)
    assert shares.min() >= 0 and shares.max() <= 1
    torch.testing.assert_close(shares, shares[:, :1].expand_as(shares))
    assert len({round(share, 6) for share in shares[:, 0].tolist()}) == 3


def test_penalty_of_a_flat_discriminator_has_a_finite_gradient() -> None:
    discriminator = Linear(torch.zeros(1, 2, 2))
    penalty = GANLoss("wgangp").penalty(discriminator, torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    penalty.backward()
    assert penalty.item() == 10
    assert discriminator.weight.grad is not None and discriminator.weight.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["lsgan", "vanilla", "hinge"])
def test_other_modes_have_no_penalty(mode: str) -> None:
    def unused(x: Tensor) -> Tensor:
        raise AssertionError("the discriminator must not run")

    assert GANLoss(mode).penalty(unused, randn(1, 1, 2, 2), randn(1, 1, 2, 2)).item() == 0


# PatchNCE ----------------------------------------------------------------------------------------


def slow_patch_nce(queries: Tensor, keys: Tensor, temperature: float, across_batch: bool) -> float:
    images, patches, _ = queries.shape
    losses = []
    for image in range(images):
        for patch in range(patches):
            candidates = range(images) if across_batch else [image]
            similarity = {
                (i, p): sum(a * b for a, b in zip(queries[image, patch].tolist(), keys[i, p].tolist(), strict=True))
                for i in candidates
                for p in range(patches)
            }
            total = sum(math.exp(value / temperature) for value in similarity.values())
            losses.append(-math.log(math.exp(similarity[image, patch] / temperature) / total))
    return mean(losses)


@pytest.mark.parametrize("across_batch", [False, True])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("patches", PATCHES)
@pytest.mark.parametrize("count", BATCHES)
def test_patch_nce_is_the_slow_formula(count: int, patches: int, temperature: float, across_batch: bool) -> None:
    queries, keys = (nn.functional.normalize(randn(count, patches, 4), dim=2) for _ in range(2))
    loss = PatchNCELoss(temperature, across_batch=across_batch)(queries, keys)
    assert loss.item() == exactly(slow_patch_nce(queries, keys, temperature, across_batch))


@pytest.mark.parametrize(("across_batch", "candidates"), [(False, 7), (True, 21)])
def test_patch_nce_cannot_tell_identical_patches_apart(across_batch: bool, candidates: int) -> None:
    same = randn(1, 1, 4).expand(3, 7, 4)
    assert PatchNCELoss(across_batch=across_batch)(same, same).item() == exactly(math.log(candidates))


@pytest.mark.parametrize(("options", "temperature"), [({}, 0.07), ({"temperature": 0.5}, 0.5)])
def test_patch_nce_of_orthogonal_patches_is_analytic(options: dict[str, Any], temperature: float) -> None:
    unit = torch.eye(5, dtype=torch.float64)[None]
    expected = math.log(1 + 4 * math.exp(-1 / temperature))
    assert PatchNCELoss(**options)(unit, unit).item() == pytest.approx(expected, rel=1e-9)


def test_patch_nce_does_not_teach_the_keys() -> None:
    queries, keys = randn(2, 5, 4, grad=True), randn(2, 5, 4, grad=True)
    PatchNCELoss()(queries, keys).backward()
    assert keys.grad is None
    assert queries.grad is not None and queries.grad.abs().max() > 0


@pytest.mark.parametrize("across_batch", [False, True])
def test_patch_nce_does_not_depend_on_the_order_of_patches(across_batch: bool) -> None:
    queries, keys, order = randn(2, 7, 4), randn(2, 7, 4), torch.randperm(7)
    nce = PatchNCELoss(across_batch=across_batch)
    torch.testing.assert_close(nce(queries[:, order], keys[:, order]), nce(queries, keys))
    assert (nce(queries[:, order], keys) - nce(queries, keys)).abs() > 1e-3


def test_patch_nce_does_not_depend_on_a_common_rotation() -> None:
    queries, keys = randn(2, 7, 4), randn(2, 7, 4)
    rotation, _ = torch.linalg.qr(randn(4, 4))
    torch.testing.assert_close(PatchNCELoss()(queries @ rotation, keys @ rotation), PatchNCELoss()(queries, keys))


# Intra-cycle contrast ----------------------------------------------------------------------------


def slow_intra(images: tuple[Tensor, ...], beta: float, negatives: str) -> float:
    losses = []
    for anchor, positive, real, fake in zip(*images, strict=True):
        denominator = EPSILON
        if negatives in ("real", "both"):
            denominator += l1(anchor, real)
        if negatives in ("fake", "both"):
            denominator += beta * l1(anchor, fake)
        losses.append(l1(anchor, positive) / denominator)
    return mean(losses)


@pytest.mark.parametrize("negatives", ["real", "fake", "both"])
@pytest.mark.parametrize("beta", [0.1, 2.0])
@pytest.mark.parametrize("count", BATCHES)
def test_intra_is_the_slow_formula(count: int, beta: float, negatives: str) -> None:
    embeddings = tuple(randn(count, 9) for _ in range(4))
    loss = IntraCycleContrast(beta, negatives)(*embeddings)
    assert loss.item() == exactly(slow_intra(embeddings, beta, negatives))


def test_intra_has_the_papers_beta() -> None:
    embeddings = tuple(randn(2, 9) for _ in range(4))
    assert IntraCycleContrast()(*embeddings).item() == exactly(slow_intra(embeddings, 0.1, "both"))


def test_intra_is_zero_for_a_perfect_reconstruction() -> None:
    anchor = randn(3, 9)
    assert IntraCycleContrast()(anchor, anchor.clone(), randn(3, 9), randn(3, 9)).item() == 0


def test_intra_is_finite_where_everything_is_equal() -> None:
    anchor = randn(2, 9, grad=True)
    same = anchor.detach()
    IntraCycleContrast()(anchor, same, same, same).backward()
    assert anchor.grad is not None and anchor.grad.isfinite().all()


@pytest.mark.parametrize(("beta", "negatives"), [(0.0, "both"), (0.3, "real")])
def test_intra_inverts_when_positive_and_negative_swap(beta: float, negatives: str) -> None:
    anchor, positive, real, fake = (randn(1, 9) for _ in range(4))
    intra = IntraCycleContrast(beta, negatives)
    product = intra(anchor, positive, real, fake) * intra(anchor, real, positive, fake)
    assert product.item() == pytest.approx(1, abs=10 * EPSILON)


def test_intra_teaches_the_anchor_only() -> None:
    embeddings = [randn(2, 9, grad=True) for _ in range(4)]
    IntraCycleContrast()(*embeddings).backward()
    assert [embedding.grad is None for embedding in embeddings] == [False, True, True, True]


@pytest.mark.parametrize(("negatives", "excluded"), [("real", 3), ("fake", 2)])
def test_intra_does_not_look_at_the_excluded_negative(negatives: str, excluded: int) -> None:
    embeddings = [randn(2, 9) for _ in range(4)]
    before = IntraCycleContrast(negatives=negatives)(*embeddings)
    embeddings[excluded] = torch.full((2, 9), math.nan, dtype=torch.float64)
    assert torch.equal(IntraCycleContrast(negatives=negatives)(*embeddings), before)


# Inter-cycle contrast ----------------------------------------------------------------------------


def slow_distance(a: list[Tensor], b: list[Tensor]) -> float:
    layers = []
    for x, y in zip(a, b, strict=True):
        vectors = zip(x.flatten(0, 1), y.flatten(0, 1), strict=True)
        layers.append(mean([l1(first, second) for first, second in vectors]))
    return mean(layers)


def slow_inter(images: tuple[list[Tensor], ...], gamma: float, positives: str) -> float:
    fake, reconstructed, positive, negative = images
    numerator = 0.0
    if positives in ("real", "both"):
        numerator += slow_distance(fake, positive) + slow_distance(reconstructed, positive)
    if positives in ("fake", "both"):
        numerator += gamma * slow_distance(fake, reconstructed)
    return numerator / (slow_distance(fake, negative) + slow_distance(reconstructed, negative) + EPSILON)


def layers(count: int, patches: int, grad: bool = False) -> list[Tensor]:
    """Two layers; the second has fewer patches and another width."""
    return [randn(count, patches, 4, grad=grad), randn(count, (patches + 1) // 2, 3, grad=grad)]


@pytest.mark.parametrize("positives", ["real", "fake", "both"])
@pytest.mark.parametrize("gamma", [0.2, 1.5])
@pytest.mark.parametrize("patches", PATCHES)
@pytest.mark.parametrize("count", BATCHES)
def test_inter_is_the_slow_formula(count: int, patches: int, gamma: float, positives: str) -> None:
    images = tuple(layers(count, patches) for _ in range(4))
    loss = InterCycleContrast(gamma, positives)(*images)
    assert loss.item() == exactly(slow_inter(images, gamma, positives))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1 + 2 + 0.2 * 3) / (5 + 8)),  # the release's γ
        ({"gamma": 0.5}, (1 + 2 + 0.5 * 3) / (5 + 8)),
        ({"gamma": 0}, (1 + 2) / (5 + 8)),
        ({"positives": "real"}, (1 + 2) / (5 + 8)),
        ({"positives": "fake"}, 0.2 * 3 / (5 + 8)),
    ],
)
def test_inter_at_a_point_computed_by_hand(options: dict[str, Any], expected: float) -> None:
    """On a line: fake at 1, reconstructed at -2, positive at 0, negative at 6."""
    fake, reconstructed, positive, negative = (
        [torch.full((1, 2, 3), value, dtype=torch.float64)] for value in (1.0, -2.0, 0.0, 6.0)
    )
    loss = InterCycleContrast(**options)(fake, reconstructed, positive, negative)
    assert loss.item() == pytest.approx(expected, rel=2e-8)


def test_inter_is_zero_where_all_three_agree() -> None:
    positive = layers(2, 5)
    assert InterCycleContrast()(positive, positive, positive, layers(2, 5)).item() == 0


def test_inter_teaches_through_all_embeddings() -> None:
    images = [layers(2, 5, grad=True) for _ in range(4)]
    InterCycleContrast()(*images).backward()
    assert all(layer.grad is not None and layer.grad.abs().max() > 0 for image in images for layer in image)


# Arguments and precision -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: GANLoss("LSGAN"), "mode must be one of"),
        (lambda: PatchNCELoss(0), "temperature must be positive"),
        (lambda: PatchNCELoss(math.nan), "temperature must be positive"),
        (lambda: PatchNCELoss()(randn(2, 5, 4), randn(2, 6, 4)), r"\[N, P, E\]"),
        (lambda: PatchNCELoss()(randn(5, 4), randn(5, 4)), r"\[N, P, E\]"),
        (lambda: IntraCycleContrast(-0.1), "beta must not be negative"),
        (lambda: IntraCycleContrast(0, "fake"), "beta must not be negative, nor 0"),
        (lambda: IntraCycleContrast(negatives="none"), "negatives must be one of"),
        (lambda: InterCycleContrast(-0.1), "gamma must not be negative"),
        (lambda: InterCycleContrast(0, "fake"), "gamma must not be negative, nor 0"),
        (lambda: InterCycleContrast(positives="none"), "positives must be one of"),
        (lambda: InterCycleContrast()(layers(1, 5)[:1], layers(1, 5), layers(1, 5), layers(1, 5)), "zip"),
    ],
)
def test_wrong_arguments_raise(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mistake()


def half(*shape: int) -> Tensor:
    return torch.randn(*shape).bfloat16()


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        *((getattr(GANLoss(mode), role), lambda: [half(3, 1, 5, 3)]) for mode in GAN_MODES for role in POINTWISE[mode]),
        (PatchNCELoss(), lambda: [half(2, 7, 16), half(2, 7, 16)]),
        (PatchNCELoss(across_batch=True), lambda: [half(2, 7, 16), half(2, 7, 16)]),
        (IntraCycleContrast(), lambda: [half(2, 33) for _ in range(4)]),
        (InterCycleContrast(), lambda: [[half(2, 7, 16), half(2, 5, 16)] for _ in range(4)]),
    ],
)
def test_bfloat16_under_autocast_is_computed_in_float32(
    loss: Callable[..., Tensor], arguments: Callable[[], list[Any]]
) -> None:
    given = arguments()
    double = [[x.double() for x in value] if isinstance(value, list) else value.double() for value in given]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = loss(*given)
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(loss(*double).item(), rel=1e-5)  # bfloat16 itself resolves 4e-3
