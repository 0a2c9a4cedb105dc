"""Network files ``<tag>_net_<NET>.pth``: plain state dicts, interchangeable with CycleGAN's and CUT's."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from util.errors import UserError
from util.files import write_durably
from util.suggest import did_you_mean

logger = logging.getLogger(__name__)

Describe = Callable[[Mapping[str, Tensor]], dict[str, str]]
_MARK = b"sha256:"
_COMMENT_LENGTH = "<H"  # the last field of a zip archive, before its comment
_NO_COMMENT = struct.pack(_COMMENT_LENGTH, 0)
_BLOCK = 1 << 20  # bytes read at once
_RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def net_file(folder: Path, tag: str, name: str) -> Path:
    """Where network ``name`` is kept under ``tag`` (``latest``, ``best_psnr`` or an epoch's number)."""
    return folder / f"{tag}_net_{name}.pth"


def save_atomically(content: Any, path: Path, *, previous: Path | None = None) -> None:
    """``torch.save`` that leaves either the old file or the whole new one, with a checksum inside.

    The file stays an ordinary one that ``torch.load`` reads: the checksum is the comment of its zip archive. With
    ``previous`` the new file is read back and compared with its checksum before it takes the old one's place, which is
    kept under that name.

    Raises:
        CannotWrite: the file cannot be written.
    """

    def write(file: BinaryIO) -> None:
        recorder = _Recorder(file)
        torch.save(content, recorder)  # type: ignore[arg-type]
        if recorder.error is not None:
            raise recorder.error
        note = _MARK + recorder.digest.hexdigest().encode("ascii")
        file.seek(-len(_NO_COMMENT), os.SEEK_END)
        file.write(struct.pack(_COMMENT_LENGTH, len(note)) + note)

    write_durably(path, write, check=None if previous is None else _check_written, previous=previous)


class _Recorder:
    """What ``torch.save`` writes to: passes everything on, and sums it up.

    An error waits in ``error`` until torch is done, because its C++ code would end the process, or lose the reason.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
            self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Whoever opened the file does that."""


def _check_written(path: Path) -> None:
    if not fits_checksum(path):
        raise OSError(None, "what was written comes back different: is the disk failing?")


def fits_checksum(path: Path) -> bool | None:
    """Whether a file is what :func:`save_atomically` wrote; None if it has no checksum (from elsewhere, or cut off).

    Raises:
        OSError: it cannot be read.
    """
    digest, length = hashlib.sha256(), len(_MARK) + 2 * hashlib.sha256().digest_size
    with path.open("rb") as file:
        left = file.seek(0, os.SEEK_END) - length - len(_NO_COMMENT)
        if left < 0:
            return None
        file.seek(-length, os.SEEK_END)
        note = file.read()
        if not note.startswith(_MARK):
            return None
        file.seek(0)
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
    digest.update(_NO_COMMENT)
    return note == _MARK + digest.hexdigest().encode("ascii")


def load_file(path: Path, device: torch.device | str = "cpu") -> Any:
    """Contents of a file of tensors and plain values; nothing in it can run code.

    Raises:
        UserError: the file cannot be read, is damaged, or holds anything else.
    """
    try:
        damaged = fits_checksum(path) is False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it wonders at strange files, which are refused in a sentence below
            content = None if damaged else torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as reason:
        raise UserError(f"{path} does not exist; check the path.") from reason
    except pickle.UnpicklingError as reason:
        raise UserError(
            f"{path} holds more than tensors or is damaged, so it is not loaded; use a plain state dict."
        ) from reason
    except Exception as reason:  # whatever a file that is no checkpoint makes torch stumble over
        raise UserError(
            f"{path} is damaged or not a checkpoint ({type(reason).__name__}); restore a copy or use another one."
        ) from reason
    if damaged:
        raise UserError(f"{path} is damaged (its checksum does not fit); restore a copy or use another one.")
    return content


def save_nets(nets: Mapping[str, nn.Module], folder: Path, tag: str) -> None:
    """Write every network under ``tag``, on the CPU."""
    for name, network in nets.items():
        save_atomically(_on_cpu(network), net_file(folder, tag, name))


def repair_nets(nets: Mapping[str, nn.Module], folder: Path, tag: str) -> list[str]:
    """Write those files under ``tag`` that are not these networks, bit for bit; returns their names."""
    written = []
    for name, network in nets.items():
        path, state = net_file(folder, tag, name), _on_cpu(network)
        if not _holds(path, state):
            save_atomically(state, path)
            written.append(path.name)
    return written


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu() for key, value in network.state_dict().items()}


def _holds(path: Path, state: Mapping[str, Tensor]) -> bool:
    try:
        stored = load_file(path)
    except UserError:
        return False
    if not isinstance(stored, Mapping) or stored.keys() != state.keys():
        return False
    return all(isinstance(stored[key], Tensor) and torch.equal(stored[key], state[key]) for key in state)


def load_nets(nets: Mapping[str, nn.Module], folder: Path, tag: str, describe: Describe) -> None:
    """Load every network of ``nets`` from ``folder``; ``describe`` explains a mismatch in terms of flags.

    Raises:
        UserError: a file is missing, unreadable or of another architecture.
    """
    for name, network in nets.items():
        path = net_file(folder, tag, name)
        if not path.is_file():
            raise UserError(_missing(path, folder, tag, name))
        load_net(network, path, describe)


def load_weights(nets: Mapping[str, nn.Module], place: Path, tag: str, describe: Describe) -> None:
    """Load ``nets`` from a run's folder, or the only one of them from its file; see :func:`load_nets`.

    Raises:
        UserError: as there, and if several networks are asked of one file.
    """
    if not place.is_file():
        load_nets(nets, place, tag, describe)
        return
    if len(nets) != 1:
        raise UserError(
            f"--checkpoint {place}: this model tests with {len(nets)} networks ({', '.join(nets)}); give its run."
        )
    (name, network), *_ = nets.items()
    usual = place.with_name(re.sub(r"_net_.+\.pth$", f"_net_{name}.pth", place.name))
    if usual != place and usual.is_file():
        logger.warning("--checkpoint %s: the network that this run is tested with is %s beside it", place, usual.name)
    load_net(network, place, describe)


def load_net(network: nn.Module, path: Path, describe: Describe) -> None:
    """Load one network; see :func:`load_nets`."""
    stored = load_file(path)
    if not isinstance(stored, Mapping) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise UserError(f"{path} is not a network's state dict; give one tensor per parameter.")
    put_into(network, stored, path, describe)


def put_into(network: nn.Module, stored: Mapping[str, Tensor], path: Path, describe: Describe) -> None:
    """Load a state dict that came from ``path``.

    Raises:
        UserError: it is of another architecture; the message names the flags.
    """
    state = _without_leftovers(stored, network)
    own = network.state_dict()
    if state.keys() == own.keys() and all(state[key].shape == own[key].shape for key in own):
        network.load_state_dict(state)
        return
    raise UserError(_mismatch(path, describe(state), describe(own)))


def without_wrapper(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without the ``module.`` that DataParallel puts in front of every key."""
    return {key.removeprefix("module."): value for key, value in stored.items()}


def _without_leftovers(stored: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Drop DataParallel's ``module.`` and the running statistics that instance norm had before torch 0.4."""
    state = without_wrapper(stored)
    own = network.state_dict()
    modules = dict(network.named_modules())

    def is_leftover(key: str) -> bool:
        owner, _, leaf = key.rpartition(".")
        return key not in own and leaf in _RUNNING_STATISTICS and isinstance(modules.get(owner), nn.InstanceNorm2d)

    return {key: value for key, value in state.items() if not is_leftover(key)}


def _missing(path: Path, folder: Path, tag: str, name: str) -> str:
    if not folder.is_dir():
        return f"{folder} does not exist; check --name and --checkpoints_dir, or train first."
    tags = sorted(match[1] for file in folder.iterdir() if (match := re.match(rf"(.+)_net_{name}\.pth$", file.name)))
    if tags:
        hint = "" if tag.isdecimal() else did_you_mean(tag, tags)
        return f"--epoch {tag}: {path.name} is not in {folder}; there are checkpoints of {', '.join(tags)}{hint}."
    others = sorted({match[1] for file in folder.iterdir() if (match := re.match(r".+_net_(.+)\.pth$", file.name))})
    hint = f"it holds networks {', '.join(others)}: does --model fit?" if others else "train first."
    return f"{path} does not exist; {hint}"


def _mismatch(path: Path, stored: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    differing = [flag for flag in {**wanted, **stored} if stored.get(flag) != wanted.get(flag)]
    if not stored or not differing:
        return f"{path} is of another architecture than the options describe; check --model, --netG and --netD."
    details = "; ".join(
        f"{flag} is {stored.get(flag, 'absent')} in the file but {wanted.get(flag, 'absent')} in the options"
        for flag in differing
    )
    return f"{path} is of another architecture: {details}; change the options to fit the file."
