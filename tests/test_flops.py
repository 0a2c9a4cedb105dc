"""What a step costs, by PyTorch's own counter on fake tensors: as many passes as the method has, and no more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.cclgan_model import CCLGANModel
from options import Options, parse_train
from scripts._benchmark.naive import NaiveCCLGAN
from scripts.count_flops import main as count_flops
from scripts.count_flops import make_fake, markdown, naive_step_cost, step_costs, weightless_model
from tests.counting import flops, whole_step
from tests.test_cclgan import NaiveStep

DOCS = Path(__file__).resolve().parents[1] / "docs" / "ablations.md"
SIZE = 256
BETWEEN_VERSIONS = 0.03  # releases of PyTorch count CLIP's attention a little differently; the rest is exact


def options(*flags: str) -> Options:
    return parse_train(["--dataroot", "none", "--model", "cclgan", *flags])


def resnet_multiply_adds(ngf: int, size: int, blocks: int) -> int:
    """By hand, for the antialiased ResNet: every convolution's positions × kernel × inputs × outputs."""
    stem = size**2 * 49 * 3 * ngf
    down = [size**2 * 9 * ngf * 2 * ngf, (size // 2) ** 2 * 9 * 2 * ngf * 4 * ngf]
    blur_down = [9 * (size // 2) ** 2 * 2 * ngf, 9 * (size // 4) ** 2 * 4 * ngf]
    block = 2 * (size // 4) ** 2 * 9 * (4 * ngf) ** 2
    up = [(size // 2) ** 2 * 9 * 4 * ngf * 2 * ngf, size**2 * 9 * 2 * ngf * ngf]
    head = size**2 * 49 * ngf * 3
    return stem + sum(down) + sum(blur_down) + blocks * block + sum(up) + head


@pytest.mark.parametrize(("identity", "passes"), [("0", 4), ("0.5", 6)])
@pytest.mark.parametrize("preset", ["paper", "release"])
def test_the_generators_forward_is_exactly_so_many_single_passes(preset: str, identity: str, passes: int) -> None:
    model = weightless_model(
        options("--preset", preset, "--lambda_identity", identity, "--lambda_intra", "0"), CCLGANModel
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = make_fake(model, (1, 3, SIZE, SIZE))
        single = flops(lambda: model.nets["G_A"](batch["A"]))
        assert flops(lambda: model.forward(batch)) == passes * single  # type: ignore[arg-type]


@dataclass(frozen=True)
class PaperStep:
    """The paper preset at 256², ngf 64, batch 1, counted once for several tests."""

    single_pass: int
    single_backward: tuple[int, int]  # from a real image, from a generated one
    costs: dict[str, tuple[int, int]]
    naive: tuple[int, int]
    in_one_go: int


@pytest.fixture(scope="module")
def paper() -> PaperStep:
    model, naive = weightless_model(options(), CCLGANModel), weightless_model(options(), NaiveCCLGAN)
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = make_fake(model, (1, 3, SIZE, SIZE))
        single = flops(lambda: model.nets["G_A"](batch["A"]))
        from_real = model.nets["G_A"](batch["A"]).sum()
        from_generated = model.nets["G_A"](batch["A"].clone().requires_grad_()).sum()
        costs = step_costs(model, batch)
        return PaperStep(
            single,
            (flops(from_real.backward), flops(from_generated.backward)),
            costs,
            naive_step_cost(naive, make_fake(naive, (1, 3, SIZE, SIZE))),
            flops(lambda: whole_step(model, batch)),
        )


def test_a_single_pass_costs_what_its_convolutions_cost_by_hand(paper: PaperStep) -> None:
    by_hand = 2 * resnet_multiply_adds(64, SIZE, 9)
    assert by_hand <= paper.single_pass <= 1.02 * by_hand  # the blurs before upsampling are left out


def test_the_components_add_up_to_a_step_counted_in_one_go(paper: PaperStep) -> None:
    assert paper.in_one_go == sum(map(sum, paper.costs.values()))


def test_the_generators_backward_is_that_of_its_passes_taken_one_by_one(paper: PaperStep) -> None:
    """Batched or not, with losses or without: four passes begin at real images, two at generated ones."""
    from_real, from_generated = paper.single_backward
    assert paper.costs["generators"] == (6 * paper.single_pass, 4 * from_real + 2 * from_generated)


def test_components_off_cost_nothing() -> None:
    model = weightless_model(options("--lambda_NCE", "0", "--lambda_intra", "0", "--lambda_inter", "0"), CCLGANModel)
    with FakeTensorMode(allow_non_fake_inputs=True):
        costs = step_costs(model, make_fake(model, (1, 3, 64, 64)))
    assert {name for name, cost in costs.items() if cost == (0, 0)} == {
        "LCL: heads F, patch products", "intra-CCL: semantic encoder", "inter-CCL: heads P",
    }  # fmt: skip


class NaivePasses(NaiveStep):
    """The naive step of test_cclgan.py without its loops over single vectors, which fake tensors cannot follow."""

    def __init__(self, model: CCLGANModel, options: dict[str, Any], shapes: dict[str, list[torch.Size]]) -> None:
        super().__init__(model, options)
        self.shapes = shapes

    def locations(self, network: str, x: Tensor, taps: tuple[str, ...], count: int) -> list[Tensor]:
        return [torch.randperm(shape[2] * shape[3])[:count] for shape in self.shapes[network]]

    def embed(self, head: str, network: str, x: Tensor, taps: tuple[str, ...], locations: list[Tensor]) -> list[Tensor]:
        return self.m.nets[head](self.m.nets[network].encode(x, taps), locations)

    def lcl(self, key: tuple[str, str, Tensor], query: tuple[str, str, Tensor]) -> Tensor:
        taps = tuple(self.o["nce_layers"].split(","))
        where = self.locations(key[1], key[2], taps, self.o["num_patches"])
        pairs = zip(self.embed(*query, taps, where), self.embed(*key, taps, where), strict=True)
        return torch.stack([self.m.nce(q, k.detach()) for q, k in pairs]).mean()


def naive_flops(model: CCLGANModel, opt: Options, batch: dict[str, Tensor]) -> int:
    for name, network in model.nets.items():
        network.requires_grad_(not name.startswith("D"))
    with torch.no_grad():
        shapes = {
            name: [f.shape for f in network.encode(batch["A"], model.lcl_taps if name[0] == "G" else model.inter_taps)]
            for name, network in model.nets.items()
            if name[0] in "GD"
        }
    naive = NaivePasses(model, vars(opt), shapes)
    total = flops(lambda: naive.generator_loss(batch["A"], batch["B"]).backward())
    for name, network in model.nets.items():
        network.requires_grad_(name.startswith("D"))
    return total + flops(lambda: naive.discriminator_loss(batch["A"], batch["B"]).backward())


def test_the_docs_state_the_figures_that_the_command_prints(paper: PaperStep) -> None:
    whole = sum(cost[0] for cost in paper.costs.values()), sum(cost[1] for cost in paper.costs.values())
    lines = markdown({**paper.costs, "whole step": whole, "naive implementation": paper.naive}).splitlines()
    written = {cells[0]: cells[1:] for cells in map(_cells, DOCS.read_text(encoding="utf-8").splitlines())}
    for name, *numbers in map(_cells, lines[2:]):
        assert [float(cell.strip("*")) for cell in written[name]] == pytest.approx(
            [float(cell.strip("*")) for cell in numbers], rel=BETWEEN_VERSIONS
        ), name


def _cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_sharing_passes_saves_more_than_half_of_the_naive_step_and_the_docs_state_it(paper: PaperStep) -> None:
    opt = options()
    model = weightless_model(opt, CCLGANModel)
    with FakeTensorMode(allow_non_fake_inputs=True):
        naive = naive_flops(model, opt, make_fake(model, (1, 3, SIZE, SIZE)))
    assert paper.in_one_go < sum(paper.naive) < naive / 2
    stated = [float(number) for number in re.findall(r"(\d+\.\d\d) GFLOP", DOCS.read_text(encoding="utf-8"))]
    assert any(number == pytest.approx(naive / 1e9, rel=BETWEEN_VERSIONS) for number in stated)


def test_the_command_counts_other_settings(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--lambda_intra", "0", "--lambda_identity", "0", "--netG", "resnet_6blocks", "--crop_size", "64"]
    assert count_flops(["--", *flags]) == 0
    assert "is 4 passes of one image" in capsys.readouterr().out


def test_a_flag_that_does_not_exist_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert count_flops(["--", "--lambda_itnra", "0"]) == 2
    assert "did you mean 'lambda_intra'" in capsys.readouterr().err
