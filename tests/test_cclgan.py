"""CCLGAN: which gradients flow, what is computed at weight 0, and equality with a naive step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models.cclgan_model as cclgan
from models.cclgan_model import CCLGANModel
from models.cclgan_options import OPTIONS, PRESETS
from models.losses.rain_exchange import add_rain, streaks, veiled
from models.networks.semantic import SemanticEncoder
from util.errors import UserError

NETWORKS = {
    "input_nc": 3, "output_nc": 3, "netG": "resnet_6blocks", "ngf": 4, "normG": "instance", "no_dropout": True,
    "no_antialias": False, "no_antialias_up": False, "residual": False, "nafnet_blocks": "1,1,1",
    "init_type": "xavier", "init_gain": 0.02,
    "netD": "basic", "ndf": 4, "n_layers_D": 3, "normD": "instance", "preprocess": "none", "crop_size": 32,
    "gan_mode": "lsgan", "pool_size": 0,
}  # fmt: skip
EPSILON = 1e-7


@pytest.fixture(autouse=True)
def _small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """φ without pretrained weights: these tests are about the graph, not about meaning."""

    def tiny_encoder(name: str, **_: Any) -> SemanticEncoder:
        torch.manual_seed(99)
        backbone = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        return SemanticEncoder(backbone, 24, (0.5, 0.4, 0.6), (0.2, 0.3, 0.25))

    monkeypatch.setattr(cclgan, "create_semantic_encoder", tiny_encoder)


def build(**changes: Any) -> CCLGANModel:
    options = {**NETWORKS, **{option.name: option.default for option in OPTIONS}}
    options |= {"num_patches": 7, "inter_patches": 5, "netF_nc": 8, "inter_nc": 8}
    options |= {**PRESETS[changes.get("preset", "paper")], **changes}
    torch.manual_seed(3)
    model = CCLGANModel(SimpleNamespace(**options), training=True)
    for network in (*model.nets.values(), *model.frozen.values()):
        network.double()
    for network in model.nets.values():  # Xavier at 0.02 leaves gradients too small to compare
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
    return model


def images(batch: int = 2, side: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)
    return {
        key: torch.rand(batch, 3, side, side, generator=generator, dtype=torch.float64) * 2 - 1 for key in ("A", "B")
    }


def shared_gradients(model: CCLGANModel, batch: dict[str, Tensor], phase: int) -> dict[str, Tensor]:
    """Gradients of one phase as the model computes it."""
    torch.manual_seed(5)
    for network in model.nets.values():
        network.requires_grad_(True).zero_grad()
    passed = model.forward(batch)  # type: ignore[arg-type]
    trained = model.phases[phase].trains
    for name, network in model.nets.items():
        network.requires_grad_(name in trained)
    torch.manual_seed(5 + phase)
    torch.stack(list(model.phases[phase].losses(passed).values())).sum().backward()
    return collect(model)


def collect(model: CCLGANModel) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": parameter.grad.clone()
        for name, network in model.nets.items()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    }


class NaiveStep:
    """Every term of eq. 11 from scratch, each with forward passes of its own, image by image where it can.

    Only the random locations are shared with the model under test: they are drawn in the same order.
    """

    def __init__(self, model: CCLGANModel, options: dict[str, Any]) -> None:
        self.m, self.o = model, options

    def G_A(self, x: Tensor) -> Tensor:
        return torch.cat([self.m.nets["G_A"](one[None]) for one in x])

    def G_B(self, x: Tensor) -> Tensor:
        return torch.cat([self.m.nets["G_B"](one[None]) for one in x])

    def embed(self, head: str, network: str, x: Tensor, taps: tuple[str, ...], locations: list[Tensor]) -> list[Tensor]:
        """[N, P, E] per layer by explicit loops over images and locations."""
        layers = []
        for number, tap in enumerate(taps):
            per_image = []
            for one in x:
                (feature,) = self.m.nets[network].encode(one[None], [tap])
                width = feature.shape[3]
                vectors = [feature[0, :, int(p) // width, int(p) % width] for p in locations[number]]
                projected = [self.m.nets[head].get_submodule(f"mlp_{number}")(vector) for vector in vectors]
                per_image.append(torch.stack([v / (v.norm() + 1e-7) for v in projected]))
            layers.append(torch.stack(per_image))
        return layers

    def locations(self, network: str, x: Tensor, taps: tuple[str, ...], count: int) -> list[Tensor]:
        shapes = [feature.shape for feature in self.m.nets[network].encode(x, taps)]
        return [torch.randperm(shape[2] * shape[3])[:count] for shape in shapes]

    def inter(self, D: str, P: str, fake: Tensor, rec: Tensor, real: Tensor, other: Tensor) -> Tensor:
        taps = tuple(self.o["inter_layers"].split(","))
        where = self.locations(D, fake, taps, self.o["inter_patches"])
        f, r, p, n = (self.embed(P, D, x, taps, where) for x in (fake, rec, real, other))

        def d(a: list[Tensor], b: list[Tensor]) -> Tensor:
            return sum(((x - y).abs().mean() for x, y in zip(a, b, strict=True)), torch.zeros(())) / len(a)

        positives = self.o["inter_positives"]
        pulled = torch.zeros((), dtype=torch.float64)
        if positives != "fake":
            pulled = pulled + d(f, p) + d(r, p)
        if positives != "real":
            pulled = pulled + self.o["inter_gamma"] * d(f, r)
        return pulled / (d(f, n) + d(r, n) + EPSILON)

    def lcl(self, key: tuple[str, str, Tensor], query: tuple[str, str, Tensor]) -> Tensor:
        taps = tuple(self.o["nce_layers"].split(","))
        where = self.locations(key[1], key[2], taps, self.o["num_patches"])
        keys = self.embed(*key, taps, where)
        queries = self.embed(*query, taps, where)
        total = torch.zeros((), dtype=torch.float64)
        for k, q in zip(keys, queries, strict=True):
            k = k.detach()
            per_patch = [
                -torch.log_softmax(k[i] @ q[i, s] / self.o["nce_T"], dim=0)[s]
                for i in range(len(q))
                for s in range(q.shape[1])
            ]
            total = total + torch.stack(per_patch).mean()
        return total / len(taps)

    def intra(self, anchor: Tensor, positive: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        phi = self.m.frozen["phi"]
        a, p, nr, nf = phi(anchor), *(phi(x.detach()) for x in (positive, real, fake))
        below = torch.full((len(a),), EPSILON, dtype=torch.float64)
        if self.o["intra_negatives"] != "fake":
            below = below + (a - nr).abs().mean(1)
        if self.o["intra_negatives"] != "real":
            below = below + self.o["intra_beta"] * (a - nf).abs().mean(1)
        return ((a - p).abs().mean(1) / below).mean()

    def fool(self, logits: Tensor) -> Tensor:
        return -logits.mean() if self.o["gan_mode"] == "hinge" else F.mse_loss(logits, torch.ones_like(logits))

    def generator_loss(self, R: Tensor, N: Tensor) -> Tensor:
        o, nets = self.o, self.m.nets
        torch.manual_seed(5)
        total = torch.zeros((), dtype=torch.float64)
        if o["lambda_inter"]:
            inter_A = self.inter("D_A", "P_A", self.G_A(R), self.G_A(self.G_B(N)), N, R)
            inter_B = self.inter("D_B", "P_B", self.G_B(N), self.G_B(self.G_A(R)), R, N)
            total = total + o["lambda_inter"] * (inter_A + inter_B)
        if o["lambda_GAN"]:
            total = total + o["lambda_GAN"] * self.fool(nets["D_A"](self.G_A(R)))
            total = total + o["lambda_GAN"] * self.fool(nets["D_B"](self.G_B(N)))
        if o["lambda_NCE"]:
            terms = [self.lcl(("F_A", "G_A", R), ("F_B", "G_B", self.G_A(R))),
                     self.lcl(("F_B", "G_B", N), ("F_A", "G_A", self.G_B(N)))]  # fmt: skip
            if o["lcl_terms"] == 4:
                terms.append(self.lcl(("F_B", "G_B", self.G_A(R)), ("F_A", "G_A", self.G_B(self.G_A(R)))))
                terms.append(self.lcl(("F_A", "G_A", self.G_B(N)), ("F_B", "G_B", self.G_A(self.G_B(N)))))
            total = total + o["lambda_NCE"] * torch.stack(terms).mean()
        if o["lambda_intra"]:
            total = total + o["lambda_intra"] * (
                self.intra(self.G_B(self.G_A(R)), R, N, self.G_A(R))
                + self.intra(self.G_A(self.G_B(N)), N, R, self.G_B(N))
            )
        if o["lambda_identity"]:
            total = total + o["lambda_identity"] * (F.l1_loss(self.G_A(N), N) + F.l1_loss(self.G_B(R), R))
        if o["lambda_exchange"]:
            rained_on = add_rain(veiled(N, o["exchange_veil"], o["exchange_clear"]), streaks(R - self.G_A(R)).detach())
            distance = {"l1": F.l1_loss, "l2": F.mse_loss}[o["exchange_distance"]]
            total = total + o["lambda_exchange"] * distance(self.G_A(rained_on), N)
        return total

    def discriminator_loss(self, R: Tensor, N: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for D, real, fake in (("D_A", N, self.G_A(R).detach()), ("D_B", R, self.G_B(N).detach())):
            on_real, on_fake = self.m.nets[D](real), self.m.nets[D](fake)
            if self.o["gan_mode"] == "hinge":
                total = total + 0.5 * (F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean())
            else:
                total = total + 0.5 * ((on_real - 1).pow(2).mean() + on_fake.pow(2).mean())
        if self.o["inter_updates_D"]:
            torch.manual_seed(6)
            N_hat, R_hat = self.G_A(R).detach(), self.G_B(N).detach()
            N_tilde, R_tilde = self.G_A(R_hat).detach(), self.G_B(N_hat).detach()
            total = total + self.o["lambda_inter"] * self.inter("D_A", "P_A", N_hat, N_tilde, N, R)
            total = total + self.o["lambda_inter"] * self.inter("D_B", "P_B", R_hat, R_tilde, R, N)
        return total


SETTINGS: list[dict[str, Any]] = [
    {},
    {"lambda_identity": 0.0},
    {"preset": "release"},
    {"intra_negatives": "real"},
    {"intra_negatives": "fake"},
    {"inter_positives": "real"},
    {"inter_positives": "fake"},
    {"inter_updates_D": True},
    {"lambda_intra": 0.0},
    {"lambda_inter": 0.0},
    {"lambda_exchange": 3.0},
    {"lambda_exchange": 3.0, "exchange_veil": 0.5, "exchange_clear": 0.3},
    {"lambda_exchange": 3.0, "exchange_distance": "l2"},
    {"lambda_NCE": 0.0, "residual": True},
    {"no_antialias": True, "no_antialias_up": True},
]


@pytest.mark.parametrize("changes", SETTINGS, ids=lambda c: ",".join(f"{k}={v}" for k, v in c.items()) or "paper")
@pytest.mark.parametrize("phase", [0, 1], ids=["G", "D"])
def test_shared_passes_give_the_gradients_of_the_naive_step(changes: dict[str, Any], phase: int) -> None:
    batch = images()
    model = build(**changes)
    shared = shared_gradients(model, batch, phase)
    for network in model.nets.values():
        network.zero_grad()
    options = {**NETWORKS, **{option.name: option.default for option in OPTIONS}}
    options |= {"num_patches": 7, "inter_patches": 5} | PRESETS[changes.get("preset", "paper")] | changes
    naive = NaiveStep(model, options)
    loss = naive.generator_loss if phase == 0 else naive.discriminator_loss
    loss(batch["A"], batch["B"]).backward()
    reference = {key: value for key, value in collect(model).items() if key in shared}
    assert reference.keys() == shared.keys()
    scale = max(float(value.abs().max()) for value in reference.values())
    for key, value in reference.items():
        assert torch.allclose(shared[key], value, rtol=1e-5, atol=1e-9 * scale), key


def test_the_generator_phase_leaves_no_gradient_in_discriminators_and_encoder() -> None:
    model = build()
    gradients = shared_gradients(model, images(), phase=0)
    assert {key.split(".")[0] for key in gradients} == {"G_A", "G_B", "F_A", "F_B", "P_A", "P_B"}
    assert all(parameter.grad is None for parameter in model.frozen["phi"].parameters())


def test_intra_contrast_reaches_both_generators_through_the_encoder() -> None:
    model = build(lambda_GAN=0.0, lambda_NCE=0.0, lambda_inter=0.0, lambda_identity=0.0)
    gradients = shared_gradients(model, images(), phase=0)
    for name in ("G_A", "G_B"):
        assert sum(float(value.abs().sum()) for key, value in gradients.items() if key.startswith(name)) > 0


@pytest.mark.parametrize(
    ("weight", "absent"),
    [("lambda_NCE", {"F_A", "F_B"}), ("lambda_inter", {"P_A", "P_B"})],
)
def test_weight_zero_means_that_the_heads_do_not_exist(weight: str, absent: set[str]) -> None:
    assert not absent & build(**{weight: 0.0}).nets.keys()
    assert absent <= build().nets.keys()


def test_without_intra_contrast_no_encoder_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> SemanticEncoder:
        raise AssertionError("loaded")

    monkeypatch.setattr(cclgan, "create_semantic_encoder", refuse)
    assert not build(lambda_intra=0.0).frozen


def test_without_inter_contrast_no_discriminator_features_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(lambda_inter=0.0)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("features of D were taken")

    for name in ("D_A", "D_B"):
        monkeypatch.setattr(model.nets[name], "encode", refuse)
    shared_gradients(model, images(), phase=0)


@pytest.mark.parametrize(("identity", "images_per_generator"), [(0.0, 4), (0.5, 6)])
def test_each_generator_passes_as_few_images_as_the_method_has(identity: float, images_per_generator: int) -> None:
    """Batch 2: R̂/N̂ and the cycle make 2 × 2 images per generator, the identity term 2 more; LCL adds none."""
    model = build(lambda_identity=identity)
    seen = {"G_A": 0, "G_B": 0}

    def count(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] += len(inputs[0])

        return hook

    for name in seen:
        model.nets[name].model[1].register_forward_pre_hook(count(name))
    shared_gradients(model, images(), phase=0)
    assert seen == {"G_A": images_per_generator, "G_B": images_per_generator}


def test_without_adversarial_loss_no_discriminator_is_trained() -> None:
    assert [phase.name for phase in build(lambda_GAN=0.0).phases] == ["G"]
    assert {"D_A", "D_B"} <= build(lambda_GAN=0.0).nets.keys(), "inter-CCL needs their features"
    assert not {"D_A", "D_B"} & build(lambda_GAN=0.0, lambda_inter=0.0).nets.keys()


def test_all_weights_zero_is_refused() -> None:
    weights = ("lambda_GAN", "lambda_NCE", "lambda_intra", "lambda_inter", "lambda_identity")
    with pytest.raises(UserError, match="nothing trains"):
        build(**dict.fromkeys(weights, 0.0))


def test_domains_of_different_channels_need_the_terms_between_them_off() -> None:
    with pytest.raises(UserError, match="--lambda_inter"):
        build(input_nc=1)
    model = build(input_nc=1, lambda_inter=0.0, lambda_identity=0.0)
    batch = images()
    batch["A"] = batch["A"][:, :1]
    assert shared_gradients(model, batch, phase=0)


def test_a_step_in_bfloat16_runs_and_stays_near_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = build()
    torch.manual_seed(5)
    with torch.no_grad():
        wanted = exact.generator_losses(exact.forward(images()))  # type: ignore[arg-type]
    model = build()
    for network in (*model.nets.values(), *model.frozen.values()):
        network.float()
    torch.manual_seed(5)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = {key: value.float() for key, value in images().items()}
        found = model.generator_losses(model.forward(half))  # type: ignore[arg-type]
    for name, value in wanted.items():
        assert found[name].dtype == torch.float32
        assert found[name].item() == pytest.approx(value.item(), rel=0.1), name


def test_inter_contrast_needs_a_discriminator_with_layers() -> None:
    with pytest.raises(UserError, match="--netD pixel"):
        build(netD="pixel")


def test_testing_builds_only_the_derainer() -> None:
    options = {**NETWORKS, **{option.name: option.default for option in OPTIONS}}
    assert set(CCLGANModel(SimpleNamespace(**options), training=False).nets) == {"G_A"}


def test_rainy_and_rain_free_images_may_differ_in_size() -> None:
    batch = images()
    batch["B"] = batch["B"][:, :, :28, :24]
    assert shared_gradients(build(), batch, phase=0)


def test_a_veil_without_rain_exchange_is_told(caplog: pytest.LogCaptureFixture) -> None:
    build(exchange_veil=0.5)
    assert "--exchange_veil 0.5 does nothing" in caplog.text


def test_a_distance_without_rain_exchange_is_told(caplog: pytest.LogCaptureFixture) -> None:
    build(exchange_distance="berhu")
    assert "--exchange_distance berhu does nothing" in caplog.text
