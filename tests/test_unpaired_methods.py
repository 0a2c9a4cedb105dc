"""DCD-GAN, NLCL and JRGR: networks and loss terms against transcriptions in NumPy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models import create_model
from models.losses.supervised_contrast import two_class_contrast
from models.networks.block_matching import at_level, nearest_patches
from models.networks.nlcl import LayerGenerator
from options.parse import parse_train
from tests.conftest import small_model_flags
from tests.plain_layers import Array, Weights, array, close, instance_norm, relu


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


def model_of(method: str, dataset: Path, *more: str) -> Any:
    """In float64, with weights that matter."""
    opt = parse_train(["--dataroot", str(dataset), *small_model_flags(method), "--init_gain", "0.2", *more])
    return create_model(opt, training=True).double()


def lsgan(logits: torch.Tensor, target: float) -> float:
    return float(((array(logits) - target) ** 2).mean())


def l1(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(np.abs(array(x) - array(y)).mean())


def mse(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(((array(x) - array(y)) ** 2).mean())


# DCD-GAN ------------------------------------------------------------------------------------------


def nce_by_loops(queries: Array, keys: Array, temperature: float = 0.07) -> float:
    """[P, E] each, of one image."""
    total = 0.0
    for i, query in enumerate(queries):
        logits = np.array([query @ key for key in keys]) / temperature
        total += float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[i])
    return total / len(queries)


def dcdgan_nce(heads: tuple[Any, Any], keys: list[torch.Tensor], queries: list[torch.Tensor]) -> float:
    """All locations of small feature maps: heads (of the keys, of the queries)."""
    levels = []
    for number, (k, q) in enumerate(zip(keys, queries, strict=True)):
        vectors = []
        for head, features in zip(heads, (k, q), strict=True):
            w = Weights(head.get_submodule(f"mlp_{number}"))
            x = array(features)[0].reshape(features.shape[1], -1).T
            x = w.linear(relu(w.linear(x)))
            vectors.append(x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-7))
        levels.append(nce_by_loops(vectors[1], vectors[0]))
    return float(np.mean(levels))


def test_dcdgan_losses_are_the_published_sum(dataset: Path) -> None:
    model = model_of("dcdgan", dataset, "--num_patches", "100000")
    A, B = images(1, 3, 32, 32), images(1, 3, 32, 32)
    x = model.forward({"A": A, "B": B})
    G_A, G_B, taps = model.nets["G_A"], model.nets["G_B"], ("4", "8", "12", "16")
    fake_B, fake_A = G_A(A), G_B(B)
    losses = model.generator_losses(x)
    judged = {name: array(model.nets[name](fake)) for name, fake in (("D_A", fake_B), ("D_B", fake_A))}
    for name, net in (("G_A", "D_A"), ("G_B", "D_B")):
        close(losses[name], 0.5 * float(-np.minimum(judged[net] - 1, 0).mean()))
    close(losses["idt_A"], 0.5 * l1(G_A(B), B))
    close(losses["idt_B"], 0.5 * l1(G_B(A), A))
    F_A, F_B = model.nets["F_A"], model.nets["F_B"]
    close(losses["NCE_A"], dcdgan_nce((F_A, F_B), G_A.encode(A, taps), G_B.encode(fake_B, taps)))
    close(losses["NCE_B"], dcdgan_nce((F_B, F_A), G_B.encode(B, taps), G_A.encode(fake_A, taps)))


def test_dcdgan_heads_learn_ten_times_as_fast_with_their_own_beta(dataset: Path) -> None:
    model = model_of("dcdgan", dataset)
    phase = next(phase for phase in model.phases if phase.name == "G")
    from util.engine.step import parameter_groups

    groups = phase.optimizer(parameter_groups(phase, model.nets)).param_groups
    assert [(group["lr"], group["betas"]) for group in groups] == [(1e-4, (0.5, 0.999)), *[(1e-3, (0.9, 0.999))] * 2]


# NLCL ---------------------------------------------------------------------------------------------


def test_nlcl_generator_is_what_was_published() -> None:
    network, x = LayerGenerator(3, 3, 4, blocks=3).double(), images(2, 3, 9, 12)
    w = Weights(network)
    f = w.conv(array(x))
    for _block in range(3):
        f = f + instance_norm(w.conv(relu(instance_norm(w.conv(f)))))
    f = w.conv(relu(instance_norm(w.conv(f))))
    close(network(x), w.conv(f))
    w.end()


def test_nlcl_generator_has_the_published_number_of_parameters() -> None:
    """0.32 M."""
    assert round(sum(p.numel() for p in LayerGenerator(3, 3, 32).parameters()) / 1e6, 2) == 0.32


def test_the_nearest_patches_are_those_of_a_search_by_loops() -> None:
    image = images(2, 48, 52)
    pixels = array(image)
    anchor = (20, 30)
    distances = {}
    for row in range(anchor[0] - 20, anchor[0] + 20):
        for column in range(anchor[1] - 20, anchor[1] + 20):
            if 8 <= row <= 48 - 8 and 8 <= column <= 52 - 8:
                patch = pixels[:, row - 8 : row + 8, column - 8 : column + 8]
                own = pixels[:, anchor[0] - 8 : anchor[0] + 8, anchor[1] - 8 : anchor[1] + 8]
                distances[(row, column)] = float(((patch - own) ** 2).sum())
    expected = sorted(distances, key=distances.__getitem__)[:10]
    assert [tuple(place) for place in nearest_patches(image, 10, anchor).tolist()] == expected


def test_an_anchor_keeps_away_from_the_border() -> None:
    found = torch.stack([nearest_patches(images(1, 40, 36), 1)[0] for _ in range(30)])
    assert found.min() >= 16 and found[:, 0].max() <= 40 - 16 and found[:, 1].max() <= 36 - 16


def test_locations_are_scaled_down_to_a_level() -> None:
    locations = torch.tensor([[17, 30], [200, 255]])
    rows, columns = [math.floor(r * 63 / 256) for r in (17, 200)], [math.floor(c * 62 / 256) for c in (30, 255)]
    assert at_level(locations, (256, 256), (63, 62)).tolist() == [
        r * 62 + c for r, c in zip(rows, columns, strict=True)
    ]


def supcon_by_loops(classes: list[Array], temperature: float) -> float:
    """−1/|P(i)| Σ_p log(exp(z_i z_p / τ) / Σ_{a≠i} exp(z_i z_a / τ)), mean over i."""
    z = np.concatenate(classes)
    label = [number for number, members in enumerate(classes) for _ in members]
    total = 0.0
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        denominator = sum(math.exp(z[i] @ z[a] / temperature) for a in others)
        same = [p for p in others if label[p] == label[i]]
        total -= sum(math.log(math.exp(z[i] @ z[p] / temperature) / denominator) for p in same) / len(same)
    return total / len(z)


def test_the_contrast_of_two_classes_is_supervised_contrast() -> None:
    first, second = (nn.functional.normalize(images(count, 5), dim=1) for count in (3, 6))
    close(two_class_contrast(first, second, 0.07), supcon_by_loops([array(first), array(second)], 0.07))


def test_nlcl_losses_are_the_published_sum(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all searches from one anchor, the middle of the image."""
    import models.nlcl_model

    monkeypatch.setattr(
        models.nlcl_model, "nearest_patches", lambda image, count: nearest_patches(image, count, (20, 20))
    )
    model = model_of("nlcl", dataset, "--crop_size", "40")
    rainy, clean = images(2, 3, 40, 40), images(2, 3, 40, 40)
    x = model.forward({"A": rainy, "B": clean})
    Back, Rain, D = (model.nets[name] for name in ("G", "R", "D"))
    B, R = Back(rainy), Rain(rainy)
    losses = model.generator_losses(x)
    close(losses["GAN"], lsgan(D(B), 1))
    close(losses["MSE"], mse(B + R, rainy))
    close(losses["L1"], 0.1 * l1(B, rainy))

    def embedded(head: Any, level: int, feature: torch.Tensor, places: torch.Tensor, size: int) -> Array:
        height, width = feature.shape[1:]
        w = Weights(head.get_submodule(f"mlp_{level}"))
        rows = [[math.floor(r * height / size), math.floor(c * width / size)] for r, c in places.tolist()]
        v = np.stack([array(feature)[:, r, c] for r, c in rows])
        v = w.linear(relu(w.linear(v)))
        return np.asarray(v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-7))

    def location_nce(source: torch.Tensor) -> float:
        taps = ("0", "2", "4", "8", "12")
        keys, queries = Back.encode(source, taps), Back.encode(Back(source), taps)
        total = 0.0
        for n in range(2):
            places = nearest_patches(keys[0][n], 256, (20, 20))
            for level in range(5):
                q, k = (embedded(model.nets["F_location"], level, f[level][n], places, 40) for f in (queries, keys))
                total += nce_by_loops(q, k) / 5
        return total / 2

    close(losses["NCE"], 0.5 * location_nce(rainy))
    close(losses["NCE_Y"], 0.5 * location_nce(clean))

    total = 0.0
    for n in range(2):
        places = [nearest_patches(image[n], count, (20, 20)) for image, count in ((B, 8), (R, 128))]
        features = [[image, *D.encode(image, ("0", "3", "7"))] for image in (B, R)]
        for level in range(4):
            classes = [
                embedded(model.nets[head], level, f[level][n], p, 40)
                for head, f, p in zip(("F_back", "F_rain"), features, places, strict=True)
            ]
            total += supcon_by_loops(classes, 0.07) / 4
    close(losses["layers"], total / 2)


# JRGR ---------------------------------------------------------------------------------------------


def test_jrgr_losses_are_the_published_sum(dataset: Path) -> None:
    model = model_of("jrgr", dataset, "--pretrain_epochs", "0").train(False)
    model.joint = True
    Os, Bs, Ot = (images(1, 3, 32, 32) for _ in range(3))
    x = model.forward({"A": Os, "B": Bs, "U": Ot})
    G1, G2, G3, G4 = (model.nets[f"G{number}"] for number in range(1, 5))
    D_B, D_Os, D_Ot = (model.nets[name] for name in ("D_B", "D_Os", "D_Ot"))
    Bs1 = G1(Os)
    Ot1 = Bs1 + G2(Os - Bs1)
    Bs2 = G3(Ot1)
    Os2 = Bs2 + G4(Ot1 - Bs2)
    Bt1 = G3(Ot)
    Os1 = Bt1 + G4(Ot - Bt1)
    Bt2 = G1(Os1)
    Ot2 = Bt2 + G2(Os1 - Bt2)
    losses = model.generator_losses(x)
    close(losses["MSE"], 40 * (mse(Bs1, Bs) + mse(Bs2, Bs)))
    close(losses["rec"], 40 * (l1(Os, Os2) + l1(Ot, Ot2) + l1(Bs1, Bs2) + l1(Bt1, Bt2)))
    close(losses["G_rain"], 4 * (lsgan(D_Ot(Ot1), 1) + lsgan(D_Os(Os1), 1)))
    close(losses["G_clean"], 4 * sum(lsgan(D_B(B), 1) for B in (Bs1, Bs2, Bt1, Bt2)))
    of_D = model.discriminator_losses(x)
    close(of_D["D_B"], 0.5 * sum(lsgan(D_B(Bs), 1) + lsgan(D_B(B), 0) for B in (Bs1, Bs2, Bt1, Bt2)))
    close(of_D["D_Ot"], 0.5 * (lsgan(D_Ot(Ot), 1) + lsgan(D_Ot(Ot1), 0)))
    close(of_D["D_Os"], 0.5 * (lsgan(D_Os(Os), 1) + lsgan(D_Os(Os1), 0)))


def test_jrgr_trains_one_network_first_and_then_all(dataset: Path) -> None:
    from util.engine.schedule import Progress

    model = model_of("jrgr", dataset, "--pretrain_epochs", "2")
    names = {
        epoch: [phase.name for phase in model.phases if phase.active(Progress(epoch=epoch))] for epoch in (1, 2, 3)
    }
    assert names == {1: ["pretrain"], 2: ["pretrain"], 3: ["G", "D"]}
    model.on_epoch(Progress(epoch=3))
    for one, other in zip(model.nets["G1"].parameters(), model.nets["G3"].parameters(), strict=True):
        assert torch.equal(one, other)
    from util.engine.step import parameter_groups

    phase = next(phase for phase in model.phases if phase.name == "G")
    assert phase.lr == {"G1": pytest.approx(1e-7), "G3": pytest.approx(1e-6)}
    assert len(parameter_groups(phase, model.nets)) == 3
