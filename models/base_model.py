"""What a method is to the rest of the framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from models.image_pool import Gather, ImagePool
from models.losses import GANLoss, PatchNCELoss
from models.networks import Discriminator, Generator, create_discriminator, create_generator, sample_locations
from models.networks.passes import forward_together
from util.engine.schedule import Progress
from util.engine.step import Phase
from util.errors import UserError
from util.option import Option
from util.streams import UNPAIRED, Stream

__all__ = ["Batch", "Model", "Phase", "Progress"]

Batch = Mapping[str, Any]
"""Images [N, C, H, W] in [-1, 1] of each stream by its name, and lists of their files: ``A``, ``A_paths``, …"""


class Stateful(Protocol):
    """State other than the networks that a resumed run needs, such as an image pool."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Model(nn.Module, ABC):
    """A method: its networks, its forward pass and its losses, and nothing else.

    Devices, precision, optimizer steps, files and logging are the engine's business. A subclass fills ``nets``
    (and, for training, ``phases``) in its constructor and implements :meth:`forward`, :meth:`visuals` and
    :meth:`infer`.

    Class attributes:
        options: the flags that this method adds.
        streams: the image streams of a batch; by default the unpaired ``A`` (source) and ``B`` (target).
        inference_nets: names of the networks that testing needs.
        headings: words for image labels that mean something else here than in CycleGAN.
    """

    options: ClassVar[tuple[Option, ...]] = ()
    streams: ClassVar[tuple[Stream, ...]] = UNPAIRED
    inference_nets: ClassVar[tuple[str, ...]] = ()
    headings: ClassVar[Mapping[str, str]] = {}

    def __init__(self) -> None:
        super().__init__()
        # Any rather than nn.ModuleDict: a method calls its networks' own methods, such as encode and judge.
        self.nets: Any = nn.ModuleDict()
        """Trained networks by the name they have in checkpoint files."""
        self.frozen: dict[str, Any] = {}
        """Pretrained networks that only training needs; never saved."""
        self.state: dict[str, Stateful] = {}
        """Everything else that a resumed run needs."""
        self.phases: tuple[Phase, ...] = ()
        """The updates of one training step, in order."""

    @classmethod
    def defaults(cls, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that this method changes; may depend on what the user chose for the method's own options."""
        del chosen
        return {}

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """The passes that the phases' losses share."""

    @abstractmethod
    def visuals(self, outputs: Any) -> dict[str, Tensor]:
        """Images [N, C, H, W] to look at in training, by label, from what :meth:`forward` returned."""

    @abstractmethod
    def infer(self, source: Tensor) -> Tensor:
        """Translate images of the source domain: [N, C, H, W] in [-1, 1] → the same size."""

    @property
    def stride(self) -> int:
        """Tiles of an image start at multiples of it: the largest stride of the generators; 1 for other networks."""
        return max((network.stride for network in self.nets.values() if isinstance(network, Generator)), default=1)

    def on_epoch(self, progress: Progress) -> None:
        """Called when an epoch begins, and again where a run resumes within one (``progress.images_in_epoch`` > 0).

        For methods that change stage or keep something for an epoch; what a resumed run needs goes in ``state``.
        """

    def use_gather(self, gather: Gather) -> None:
        """Called where several processes train, with a function that gives all their images for this process's.

        Image pools in ``state`` use it, so that all processes have the same pool, that of the whole batch.
        """
        for part in self.state.values():
            if isinstance(part, ImagePool):
                part.gather = gather


def taps_from(flag: str, text: str, network: Any) -> tuple[str, ...]:
    """Names of taps of ``network`` from an option's text.

    Raises:
        UserError: a tap that the network does not have; the message names the flag.
    """
    taps = tuple(name.strip() for name in text.split(","))
    try:
        network.check_taps(taps)
    except UserError as error:
        raise UserError(f"--{flag} {text}: {error}") from error
    return taps


def need_equal_channels(opt: Any, what: str, way_out: str) -> None:
    """Raise :class:`UserError` unless source and target have equally many channels."""
    if opt.input_nc != opt.output_nc:
        raise UserError(
            f"{what} needs one number of channels, but --input_nc is {opt.input_nc} and --output_nc is "
            f"{opt.output_nc}; make them equal or use {way_out}."
        )


def generator_from(
    opt: Any, input_nc: int, output_nc: int, *, netG: str | None = None, residual: bool | None = None
) -> Generator:
    """The generator that the options describe, but for what a method with several kinds decides itself.

    Raises:
        UserError: ``--residual`` with different numbers of channels.
    """
    residual = opt.residual if residual is None else residual
    if residual:
        need_equal_channels(opt, "--residual", "--residual false")
    return create_generator(
        netG or opt.netG,
        input_nc,
        output_nc,
        opt.ngf,
        norm=opt.normG,
        dropout=not opt.no_dropout,
        antialias_down=not opt.no_antialias,
        antialias_up=not opt.no_antialias_up,
        residual=residual,
        nafnet_blocks=opt.nafnet_blocks,
        init_type=opt.init_type,
        init_gain=opt.init_gain,
    )


def discriminator_from(opt: Any, input_nc: int) -> Discriminator:
    """The discriminator that the options describe.

    Raises:
        UserError: the crops are too small for it.
    """
    discriminator = create_discriminator(
        opt.netD,
        input_nc,
        opt.ndf,
        opt.n_layers_D,
        norm=opt.normD,
        antialias=not opt.no_antialias,
        init_type=opt.init_type,
        init_gain=opt.init_gain,
    )
    if "crop" in opt.preprocess and opt.crop_size < discriminator.smallest:
        raise UserError(
            f"--crop_size {opt.crop_size} is too small for the discriminator, which needs {discriminator.smallest}; "
            f"use a larger crop, a smaller --n_layers_D with --netD n_layers, or --netD pixel."
        )
    return discriminator


def discriminator_loss(gan: GANLoss, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """A discriminator's adversarial loss on real and (detached) fake images [N, C, H, W].

    Halved as in CycleGAN, which slows the discriminator down relative to the generator; WGAN-GP's penalty is not.
    """
    judged_real, judged_fake = forward_together(discriminator, [real, fake])
    return 0.5 * (gan.real(judged_real) + gan.fake(judged_fake)) + gan.penalty(discriminator, real, fake)


def patch_nce(
    loss: PatchNCELoss, key: tuple[nn.Module, list[Tensor]], query: tuple[nn.Module, list[Tensor]], patches: int
) -> Tensor:
    """PatchNCE between (head, features) of a generator's input and of its output, averaged over the layers.

    Features are one [N, C_l, H_l, W_l] per layer; ``patches`` locations are drawn in each, the same in both.
    """
    (key_head, key_features), (query_head, query_features) = key, query
    locations = sample_locations(key_features, patches)
    with torch.no_grad():
        keys = key_head(key_features, locations)
    queries = query_head(query_features, locations)
    return torch.stack([loss(q, k) for q, k in zip(queries, keys, strict=True)]).mean()
