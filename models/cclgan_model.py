"""CCLGAN: cycle contrastive adversarial learning for unsupervised image deraining (arXiv 2407.11750).

R and N are an unpaired real rainy and real rain-free image. G_A removes rain, G_B adds it (the paper's
G_n and G_r); D_A judges rain-free images and D_B rainy ones (D_n and D_r).

    rain → rain:            N̂ = G_A(R),  R̃ = G_B(N̂)
    rain-free → rain-free:  R̂ = G_B(N),  Ñ = G_A(R̂)

Equation numbers are the paper's. In the code N̂ is ``N_hat`` and R̃ is ``R_tilde``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.base_model import (
    Batch,
    Model,
    Phase,
    discriminator_from,
    discriminator_loss,
    generator_from,
    patch_nce,
    taps_from,
)
from models.cclgan_options import OPTIONS, PRESETS, check_weights
from models.image_pool import ImagePool
from models.losses import GANLoss, InterCycleContrast, IntraCycleContrast, PatchNCELoss
from models.losses.rain_exchange import DISTANCES, add_rain, streaks, veiled
from models.networks import create_sampler, sample_locations
from models.networks.passes import encode_together, forward_together, generate_together
from models.networks.patch_sampler import common_region
from models.networks.patchgan import PatchDiscriminator
from models.networks.semantic import create_semantic_encoder
from util.errors import UserError

Features = list[Tensor]
"""One feature map [N, C_l, H_l, W_l] per layer."""


@dataclass(frozen=True)
class TwoBranches:
    """Both branches of one step. Images are [N, C, H, W]; ``enc_X`` are a generator's features of image X."""

    R: Tensor
    N_hat: Tensor
    R_tilde: Tensor
    N: Tensor
    R_hat: Tensor
    N_tilde: Tensor
    idt_N: Tensor | None  # G_A(N)
    idt_R: Tensor | None  # G_B(R)
    enc_R: Features  # G_A's
    enc_N_hat: Features  # G_B's
    enc_N: Features  # G_B's
    enc_R_hat: Features  # G_A's


class CCLGANModel(Model):
    """Two generators, two discriminators, heads F on the generators' and P on the discriminators' features."""

    options = OPTIONS
    inference_nets = ("G_A",)

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The chosen preset; fakes go to the discriminators directly, without an image pool."""
        return {"pool_size": 0, **PRESETS[chosen.get("preset", "paper")]}

    def __init__(self, opt: Any, *, training: bool) -> None:
        """Raises :class:`UserError` for options that contradict each other."""
        super().__init__()
        self.nets["G_A"] = generator_from(opt, opt.input_nc, opt.output_nc)
        if not training:
            return
        check_weights(opt)
        self.nets["G_B"] = generator_from(opt, opt.output_nc, opt.input_nc)
        self.lambda_GAN = opt.lambda_GAN
        self.lambda_identity = opt.lambda_identity
        self.lambda_exchange = opt.lambda_exchange
        self.lay_veil = partial(veiled, densest=opt.exchange_veil, clear=opt.exchange_clear)
        self.exchange_distance = DISTANCES[opt.exchange_distance]
        if opt.lambda_GAN > 0 or opt.lambda_inter > 0:
            self.nets["D_A"] = discriminator_from(opt, opt.output_nc)
            self.nets["D_B"] = discriminator_from(opt, opt.input_nc)
        self.gan = GANLoss(opt.gan_mode)
        self.pool_N, self.pool_R = ImagePool(opt.pool_size), ImagePool(opt.pool_size)
        self.state = {"pool_N": self.pool_N, "pool_R": self.pool_R}
        self._build_lcl(opt)
        self._build_intra(opt)
        self._build_inter(opt)
        generator_nets = tuple(name for name in ("G_A", "G_B", "F_A", "F_B", "P_A", "P_B") if name in self.nets)
        generators = Phase("G", generator_nets, self.generator_losses)
        discriminators = Phase("D", ("D_A", "D_B"), self.discriminator_losses, needs_graph=False)
        self.phases = (generators, discriminators) if opt.lambda_GAN > 0 else (generators,)

    def _build_lcl(self, opt: Any) -> None:
        """Location contrastive learning; weight 0 means that nothing of it exists."""
        self.lambda_LCL = opt.lambda_NCE
        self.lcl_taps = taps_from("nce_layers", opt.nce_layers, self.nets["G_A"]) if self.lambda_LCL > 0 else ()
        if not self.lcl_taps:
            return
        self.lcl_reconstructions = opt.lcl_terms == 4
        self.num_patches = opt.num_patches
        self.nce = PatchNCELoss(opt.nce_T)
        for head, generator, channels in (("F_A", "G_A", opt.input_nc), ("F_B", "G_B", opt.output_nc)):
            self.nets[head] = create_sampler(
                opt.netF,
                self.nets[generator],
                self.lcl_taps,
                channels,
                embedding=opt.netF_nc,
                init_type=opt.init_type,
                init_gain=opt.init_gain,
            )

    def _build_intra(self, opt: Any) -> None:
        """Intra-cycle contrast; weight 0 means that no semantic encoder is loaded."""
        self.lambda_intra = opt.lambda_intra
        if self.lambda_intra > 0:
            self.intra = IntraCycleContrast(opt.intra_beta, opt.intra_negatives)
            self.frozen["phi"] = create_semantic_encoder(
                opt.semantic_encoder,
                clip_model=opt.clip_model,
                clip_pretrained=opt.clip_pretrained,
                weights_file=opt.semantic_weights,
                resize=opt.semantic_size,
            )

    def _build_inter(self, opt: Any) -> None:
        """Inter-cycle contrast; weight 0 means that no features of the discriminators are taken."""
        self.lambda_inter = opt.lambda_inter
        if self.lambda_inter == 0:
            return
        self.inter = InterCycleContrast(opt.inter_gamma, opt.inter_positives)
        self.inter_patches = opt.inter_patches
        self.inter_updates_D = opt.inter_updates_D
        for head, discriminator, channels in (("P_A", "D_A", opt.output_nc), ("P_B", "D_B", opt.input_nc)):
            if not isinstance(self.nets[discriminator], PatchDiscriminator):
                raise UserError(f"--netD {opt.netD} has no layers for inter-CCL; use basic or --lambda_inter 0.")
            self.inter_taps = taps_from("inter_layers", opt.inter_layers, self.nets[discriminator])
            self.nets[head] = create_sampler(
                "mlp_sample",
                self.nets[discriminator],
                self.inter_taps,
                channels,
                embedding=opt.inter_nc,
                init_type=opt.init_type,
                init_gain=opt.init_gain,
            )

    def forward(self, batch: Batch) -> TwoBranches:
        R, N = batch["A"], batch["B"]
        with_identity = self.lambda_identity > 0
        G_A, G_B = self.nets["G_A"], self.nets["G_B"]
        from_A = generate_together(G_A, [R, N] if with_identity else [R], self.lcl_taps)
        from_B = generate_together(G_B, [N, R] if with_identity else [N], self.lcl_taps)
        (N_hat, enc_R), (R_hat, enc_N) = from_A[0], from_B[0]
        R_tilde, enc_N_hat = G_B.forward_tapped(N_hat, self.lcl_taps)
        N_tilde, enc_R_hat = G_A.forward_tapped(R_hat, self.lcl_taps)
        return TwoBranches(
            R=R,
            N_hat=N_hat,
            R_tilde=R_tilde,
            N=N,
            R_hat=R_hat,
            N_tilde=N_tilde,
            idt_N=from_A[1][0] if with_identity else None,
            idt_R=from_B[1][0] if with_identity else None,
            enc_R=enc_R,
            enc_N_hat=enc_N_hat,
            enc_N=enc_N,
            enc_R_hat=enc_R_hat,
        )

    def generator_losses(self, x: TwoBranches) -> dict[str, Tensor]:
        """Eq. 11, and the L1 identity term that the paper's text leaves out."""
        losses = self._losses_from_discriminators(x)
        if self.lcl_taps:
            losses["LCL"] = self.lambda_LCL * self.lcl_loss(x)
        if self.lambda_intra > 0:
            losses["intra"] = self.lambda_intra * self.intra_loss(x)
        if x.idt_N is not None and x.idt_R is not None:
            identity = F.l1_loss(x.idt_N, x.N) + F.l1_loss(x.idt_R, x.R)
            losses["idt"] = self.lambda_identity * identity
        if self.lambda_exchange > 0:
            losses["exchange"] = self.lambda_exchange * self.exchange_loss(x)
        return losses

    def _losses_from_discriminators(self, x: TwoBranches) -> dict[str, Tensor]:
        """The generators' side of eq. 8–9 and inter-CCL (eq. 4–6), from the same passes of the discriminators."""
        losses: dict[str, Tensor] = {}
        first_A = first_B = None
        if self.lambda_inter > 0:
            first_A, inter_A = self._encode_and_contrast("A", x.N_hat, x.N_tilde, positive=x.N, negative=x.R)
            first_B, inter_B = self._encode_and_contrast("B", x.R_hat, x.R_tilde, positive=x.R, negative=x.N)
            losses["inter"] = self.lambda_inter * (inter_A + inter_B)
        if self.lambda_GAN > 0:
            losses["G_A"] = self.lambda_GAN * self.gan.fool(self._judged("A", x.N_hat, first_A))
            losses["G_B"] = self.lambda_GAN * self.gan.fool(self._judged("B", x.R_hat, first_B))
        return losses

    def _judged(self, domain: str, fake: Tensor, first: Tensor | None) -> Tensor:
        """D's logits of ``fake``, which may have been through the ``first`` layers already."""
        D = self.nets[f"D_{domain}"]
        return D(fake) if first is None else D.judge(first, after=D.deepest(self.inter_taps))

    def _encode_and_contrast(
        self, domain: str, fake: Tensor, reconstructed: Tensor, *, positive: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """D's features of ``fake`` at the deepest layer of inter-CCL, and this domain's inter-CCL term."""
        D = self.nets[f"D_{domain}"]
        of_fake, of_reconstructed = encode_together(D, [fake, reconstructed], self.inter_taps)
        with torch.no_grad():  # D is fixed in the generators' phase, so real images' features are constants
            of_positive, of_negative = encode_together(D, [positive, negative], self.inter_taps)
        deepest = of_fake[self.inter_taps.index(D.deepest(self.inter_taps))]
        return deepest, self._contrast(domain, of_fake, of_reconstructed, of_positive, of_negative)

    def _contrast(self, domain: str, *features: Features) -> Tensor:
        """Eq. 4 on D's features of the generated, the reconstructed, the positive and the negative image."""
        aligned = common_region(features)  # R and N may differ in size; a location is one in all images
        locations = sample_locations(aligned[0], self.inter_patches)
        return self.inter(*(self.nets[f"P_{domain}"](feature, locations) for feature in aligned))

    def lcl_loss(self, x: TwoBranches) -> Tensor:
        """Eq. 7, mean over its terms: keys and queries are features of passes that are made anyway."""
        terms = [
            self._patch_nce(("F_A", x.enc_R), ("F_B", x.enc_N_hat)),
            self._patch_nce(("F_B", x.enc_N), ("F_A", x.enc_R_hat)),
        ]
        if self.lcl_reconstructions:  # the release's N̂ → R̃ and R̂ → Ñ
            enc_R_tilde = self.nets["G_A"].encode(x.R_tilde, self.lcl_taps)
            enc_N_tilde = self.nets["G_B"].encode(x.N_tilde, self.lcl_taps)
            terms.append(self._patch_nce(("F_B", x.enc_N_hat), ("F_A", enc_R_tilde)))
            terms.append(self._patch_nce(("F_A", x.enc_R_hat), ("F_B", enc_N_tilde)))
        return torch.stack(terms).mean()

    def _patch_nce(self, key: tuple[str, Features], query: tuple[str, Features]) -> Tensor:
        """PatchNCE between (head, features) of a generator's input and of its output, mean over layers."""
        (key_head, key_features), (query_head, query_features) = key, query
        heads = self.nets[key_head], self.nets[query_head]
        return patch_nce(self.nce, (heads[0], key_features), (heads[1], query_features), self.num_patches)

    def intra_loss(self, x: TwoBranches) -> Tensor:
        """Eq. 1–3: ℓ(R̃, R, N, N̂) + ℓ(Ñ, N, R, R̂) in the space of φ; only R̃ and Ñ carry gradient."""
        phi = self.frozen["phi"]
        R_tilde, N_tilde = forward_together(phi, [x.R_tilde, x.N_tilde])
        constants = [x.R, x.N] if self.intra.negatives == "real" else [x.R, x.N, x.N_hat, x.R_hat]
        with torch.no_grad():
            R, N, *generated = forward_together(phi, constants)
        N_hat, R_hat = generated or (N, R)  # not looked at if only real negatives are
        return self.intra(R_tilde, R, N, N_hat) + self.intra(N_tilde, N, R, R_hat)

    def exchange_loss(self, x: TwoBranches) -> Tensor:
        """d(G_A(V(N) + sρ), N): ρ is the rain that G_A has just taken off R, V a veil of fog (not in the paper)."""
        with torch.no_grad():
            (R,), (N,), (N_hat,) = common_region([[x.R], [x.N], [x.N_hat]])
            rained_on = add_rain(self.lay_veil(N), streaks(R - N_hat))
        return self.exchange_distance(self.nets["G_A"](rained_on), N)

    def discriminator_losses(self, x: TwoBranches) -> dict[str, Tensor]:
        """Eq. 8–9 from the discriminators' side, halved as in CycleGAN, and inter-CCL if they learn from it."""
        losses = {
            "D_A": discriminator_loss(self.gan, self.nets["D_A"], x.N, self.pool_N.query(x.N_hat)),
            "D_B": discriminator_loss(self.gan, self.nets["D_B"], x.R, self.pool_R.query(x.R_hat)),
        }
        if self.lambda_inter > 0 and self.inter_updates_D:
            images_A = [x.N_hat.detach(), x.N_tilde.detach(), x.N, x.R]
            images_B = [x.R_hat.detach(), x.R_tilde.detach(), x.R, x.N]
            inter_A = self._contrast("A", *encode_together(self.nets["D_A"], images_A, self.inter_taps))
            inter_B = self._contrast("B", *encode_together(self.nets["D_B"], images_B, self.inter_taps))
            losses["D_inter"] = self.lambda_inter * (inter_A + inter_B)
        return losses

    def visuals(self, x: TwoBranches) -> dict[str, Tensor]:
        images = {"real_A": x.R, "fake_B": x.N_hat, "rec_A": x.R_tilde, "idt_A": x.idt_N}
        images |= {"real_B": x.N, "fake_A": x.R_hat, "rec_B": x.N_tilde, "idt_B": x.idt_R}
        return {label: image for label, image in images.items() if image is not None}

    def infer(self, source: Tensor) -> Tensor:
        return self.nets["G_A"](source)
