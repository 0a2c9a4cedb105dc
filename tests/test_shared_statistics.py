"""Instance norm and means over tiles together equal those over the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.networks import create_generator
from util.engine.shared_statistics import SharedStatistics
from util.engine.translator import Translator


def features(height: int = 64, width: int = 200) -> Tensor:
    """Values whose mean and spread grow from left to right, so that no part is like the whole."""
    noise = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(4))
    return noise * torch.linspace(0.5, 3, width) + torch.linspace(-2, 5, width)


def halves(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[..., :64], images[..., 64:]


@pytest.mark.parametrize("affine", [False, True])
def test_parts_are_normalised_like_the_whole(affine: bool) -> None:
    norm = nn.InstanceNorm2d(3, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    whole = features()
    statistics = SharedStatistics([norm])
    with statistics.gathered():
        for part in halves(whole):
            norm(part)
    with statistics.imposed():
        parts = [norm(part) for part in halves(whole)]
    torch.testing.assert_close(torch.cat(parts, dim=3), norm(whole))


def test_parts_have_the_mean_of_the_whole() -> None:
    mean, whole = nn.AdaptiveAvgPool2d(1), features()
    statistics = SharedStatistics([mean])
    with statistics.gathered():
        for part in halves(whole):
            mean(part)
    with statistics.imposed():
        for part in halves(whole):
            torch.testing.assert_close(mean(part), whole.mean((2, 3), keepdim=True))


def test_pools_that_are_not_global_are_left_alone() -> None:
    assert not SharedStatistics([nn.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool2d((1, 2)), nn.AvgPool2d(1)])


def test_gathering_changes_nothing_and_leaves_nothing_behind() -> None:
    norm, image = nn.InstanceNorm2d(3), features()
    expected = norm(image)
    statistics = SharedStatistics([norm])
    with statistics.gathered():
        torch.testing.assert_close(norm(image), expected, rtol=0, atol=0)
    with statistics.imposed():
        norm(image[..., :9])
    torch.testing.assert_close(norm(image), expected, rtol=0, atol=0)


def test_every_gathering_begins_anew() -> None:
    norm, image = nn.InstanceNorm2d(3), features()
    statistics = SharedStatistics([norm])
    for each in (image * 7, image):
        with statistics.gathered():
            norm(each)
    with statistics.imposed():
        torch.testing.assert_close(norm(image), nn.InstanceNorm2d(3)(image))


def test_norms_with_statistics_of_their_own_are_left_alone() -> None:
    norms = [nn.BatchNorm2d(3).eval(), nn.InstanceNorm2d(3, track_running_stats=True).eval()]
    assert not SharedStatistics(norms)


@pytest.mark.parametrize("name", ["resnet_6blocks", "unet_128"])
def test_tiles_come_nearer_to_the_whole(name: str) -> None:
    """Sharing must at least halve the squared distance that plain tiles have, on a picture that is not uniform."""
    torch.manual_seed(1)
    network = create_generator(name, 3, 3, 4, init_type="normal", init_gain=0.2).eval()
    picture = (features(200, 420)[:1] / 8).clamp(-1, 1)

    class Single:
        nets: dict[str, nn.Module] = {"G": network}  # noqa: RUF012

        def infer(self, source: Tensor) -> Tensor:
            return network(source)

    def translate(tile: int, *, shared: bool = True) -> Tensor:
        translator = Translator(Single(), device=torch.device("cpu"), precision="fp32", tile=tile, overlap=32)
        if not shared:
            translator._statistics = SharedStatistics([])
        return translator(picture)

    def distance(image: Tensor) -> float:
        return (image - translate(0)).square().mean().item()

    assert distance(translate(256)) < 0.5 * distance(translate(256, shared=False))
