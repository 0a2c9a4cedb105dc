"""Files of weights: ``<tag>_net_<NET>.pth``, plain state dicts as CycleGAN and CUT write them, and other projects'."""

from __future__ import annotations

import io
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn

from util.errors import UserError
from util.files import patiently, write_durably
from util.text import did_you_mean

logger = logging.getLogger(__name__)

State = Mapping[str, Tensor]
Describe = Callable[[State], dict[str, str]]
SAFETENSORS = ".safetensors"
_WRAPPERS = ("module", "_orig_mod")  # what DataParallel and torch.compile put into the names of parameters
_RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_COUNTER = "num_batches_tracked"  # not in files from before torch 0.4.1
_DEEPEST = 3  # entry of a checkpoint, or part of a name, that may be a network


def net_file(folder: Path, tag: str, name: str) -> Path:
    """Where network ``name`` is kept under ``tag`` (``latest``, ``best_psnr`` or an epoch's number)."""
    return folder / f"{tag}_net_{name}.pth"


def published_file(folder: Path, tag: str, name: str) -> Path:
    """The file to read network ``name`` from: :func:`net_file`, or the safetensors file that is there instead."""
    file = net_file(folder, tag, name)
    published = file.with_suffix(SAFETENSORS)
    return published if published.is_file() and not file.is_file() else file


def save_atomically(content: Any, path: Path, *, previous: Path | None = None) -> None:
    """``torch.save`` that leaves either the old file or the whole new one.

    With ``previous`` the new file is read back and compared with its checksums before it takes the old one's place,
    which is kept under that name.

    Raises:
        CannotWrite: the file cannot be written.
    """
    buffer = io.BytesIO()  # in a file, torch's C++ code would end the process on an error, or lose the reason
    torch.save(content, buffer)
    check = None if previous is None else _check_written
    write_durably(path, lambda file: file.write(buffer.getbuffer()), check=check, previous=previous)


def _check_written(path: Path) -> None:
    if is_damaged(path):
        raise OSError(None, "what was written comes back different: is the disk failing?")


def is_damaged(path: Path) -> bool:
    """Whether a file is not as :func:`save_atomically` wrote it, by its records' checksums, which torch ignores."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except zipfile.BadZipFile:
        return True


def load_file(path: Path, device: torch.device | str = "cpu") -> Any:
    """Contents of a file of tensors and plain values; nothing in it can run code.

    Raises:
        UserError: the file cannot be read, is damaged, or holds anything else.
    """
    try:
        return patiently(lambda: _load(path, device))
    except UserError:
        raise
    except FileNotFoundError as reason:
        raise UserError(f"{path} does not exist; check the path.") from reason
    except OSError as reason:
        raise UserError(f"{path} cannot be read ({reason.strerror or reason}); check it and try again.") from reason
    except pickle.UnpicklingError as reason:
        raise UserError(
            f"{path} holds more than tensors or is damaged, so it is not loaded; use a plain state dict."
        ) from reason
    except Exception as reason:  # torch raises many kinds for a file that is no checkpoint
        raise UserError(
            f"{path} is damaged or not a checkpoint ({type(reason).__name__}); restore a copy or use another one."
        ) from reason


def _load(path: Path, device: torch.device | str) -> Any:
    if path.suffix == SAFETENSORS:
        return load_safetensors(path, str(device))
    if zipfile.is_zipfile(path) and is_damaged(path):
        raise UserError(f"{path} is damaged (its checksum does not fit); restore a copy or use another one.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd files, which load_file refuses in a sentence
        return torch.load(path, map_location=device, weights_only=True)


def save_nets(nets: Mapping[str, nn.Module], folder: Path, tag: str) -> None:
    """Write every network under ``tag``, on the CPU."""
    for name, network in nets.items():
        state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
        save_atomically(state, net_file(folder, tag, name))


def load_nets(nets: Mapping[str, nn.Module], folder: Path, tag: str, describe: Describe) -> None:
    """Load every network of ``nets`` from ``folder``; ``describe`` explains a mismatch in terms of flags.

    Raises:
        UserError: a file is missing, unreadable or of another architecture.
    """
    for name, network in nets.items():
        path = published_file(folder, tag, name)
        if not path.is_file():
            raise UserError(_missing(path, folder, tag, name))
        load_net(network, path, describe, name)


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
        logger.warning("--checkpoint %s: the network that this run is tested with is %s, next to it", place, usual.name)
    load_net(network, place, describe, name)


def load_initial(nets: Mapping[str, nn.Module], place: Path, tag: str, main: str, describe: Describe) -> None:
    """Start with trained networks: those of ``nets`` that a run's folder has by name, or the one of a file.

    A file whose name is none of ``nets`` is network ``main``. The others stay as they are; a logged line tells both.

    Raises:
        UserError: the folder has none of them, or a file is unreadable or of another architecture.
    """
    if place.is_file():
        match = re.search(r"_net_(.+)\.pth$", place.name)
        files = {match[1] if match and match[1] in nets else main: place}
    else:
        files = {name: file for name in nets if (file := net_file(place, tag, name)).is_file()}
    if not files:
        raise UserError(f"--init_from {place}: has none of the networks {', '.join(nets)} as {tag}_net_<NET>.pth.")
    for name, file in files.items():
        load_net(nets[name], file, describe, name)
    fresh = ", ".join(name for name in nets if name not in files)
    logger.info("starts with %s of %s%s", ", ".join(files), place, f"; fresh: {fresh}" if fresh else "")


def load_net(network: nn.Module, path: Path, describe: Describe, name: str = "") -> None:
    """Load one network; see :func:`load_nets`. ``name`` decides where a foreign file holds several that fit."""
    content = load_file(path)
    state = find_network(content, path, partial(_fits, network), name)
    if state is None:
        raise UserError(_misfit(content, path, describe, network))
    network.load_state_dict(_adapted(state, network))


def put_into(network: nn.Module, stored: State, path: Path, describe: Describe) -> None:
    """Load a network of a training state that came from ``path``.

    Raises:
        UserError: it is of another architecture; the message names the flags.
    """
    if not _fits(network, stored):
        raise UserError(_misfit(stored, path, describe, network))
    network.load_state_dict(_adapted(stored, network))


@dataclass(frozen=True)
class _Candidate:
    """A state dict in a file: below which ``entries``, and which ``prefix`` its names had."""

    entries: tuple[str, ...]
    prefix: str
    state: dict[str, Tensor]

    @property
    def place(self) -> tuple[str, ...]:
        return (*self.entries, *self.prefix.split(".")[:-1])

    @property
    def code(self) -> str:
        """Python that gets it out of ``c``, what the file holds."""
        part = "c" + "".join(f"[{entry!r}]" for entry in self.entries)
        if not self.prefix:
            return part
        return f"{{k.split({self.prefix!r}, 1)[1]: v for k, v in {part}.items() if {self.prefix!r} in k}}"


def find_network(content: Any, path: Path, fits: Callable[[State], bool], name: str = "") -> State | None:
    """The state dict that ``fits``, in what a file holds: all of it, an entry of a checkpoint, or a part of a model.

    Wrappers' additions to names are left out and the names are in order. Of several that fit, the outermost counts,
    then the one called ``name``, then an average (EMA). None if there is none.

    Raises:
        UserError: there is still more than one, or the file is a run's training state.
    """
    if isinstance(content, Mapping) and {"nets", "position"} <= content.keys():
        raise UserError(f"{path} is a run's training state; give the run's folder, or a network's file such as "
                        "latest_net_G.pth.")  # fmt: skip
    found = [candidate for candidate in _candidates(content) if fits(candidate.state)]
    if not found:
        return None
    outermost = min(len(candidate.place) for candidate in found)
    outer = [candidate for candidate in found if len(candidate.place) == outermost]
    named = [candidate for candidate in outer if name and candidate.place[-1:] in ((name,), (f"net{name}",))]
    averages = [candidate for candidate in outer if "ema" in "".join(candidate.place).lower()]
    for choice in (named, averages, outer):
        if len(choice) == 1:
            if choice[0].place:
                logger.info("%s: taking the network in '%s'", path, ".".join(choice[0].place))
            return choice[0].state
    places = ", ".join(".".join(candidate.place) for candidate in outer)
    raise UserError(
        f"{path} holds several networks that fit ({places}); save one of them by itself: python -c "
        f"\"import torch; c = torch.load({str(path)!r}, weights_only=True); torch.save({outer[0].code}, 'net.pth')\""
    )


def _candidates(content: Any) -> Iterator[_Candidate]:
    """Every state dict in ``content``, and every part of one whose names begin alike."""
    for entries, stored in _state_dicts(content):
        names = {key: [part for part in key.split(".") if part not in _WRAPPERS] for key in stored}
        order = sorted(stored, key=lambda key: [_natural(part) for part in names[key]])
        prefixes = {tuple(parts[:depth]) for parts in names.values() for depth in range(min(_DEEPEST, len(parts)))}
        for prefix in sorted(prefixes):
            depth = len(prefix)
            state = {".".join(names[key][depth:]): stored[key] for key in order if tuple(names[key][:depth]) == prefix}
            yield _Candidate(entries, "".join(f"{part}." for part in prefix), state)


def _natural(part: str) -> tuple[bool, int | str]:
    """A key to sort by: numbers as numbers."""
    return (True, int(part)) if part.isdecimal() else (False, part)


def _state_dicts(content: Any, entries: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """What is made of named tensors in ``content``, with the entries that lead to it."""
    if isinstance(content, Mapping):
        named = {key: value for key, value in content.items() if isinstance(key, str)}
        if tensors := {key: value for key, value in named.items() if isinstance(value, Tensor)}:
            yield entries, tensors
        for key, value in named.items() if len(entries) < _DEEPEST else ():
            yield from _state_dicts(value, (*entries, key))


def _fits(network: nn.Module, state: State) -> bool:
    own, adapted = network.state_dict(), _adapted(state, network)
    return adapted.keys() == own.keys() and all(adapted[key].shape == own[key].shape for key in own)


def _adapted(state: State, network: nn.Module) -> State:
    """Without the statistics that instance norm had before torch 0.4, and with the counters that batch norm had not."""
    own, modules = network.state_dict(), dict(network.named_modules())

    def is_leftover(key: str) -> bool:
        owner, _, leaf = key.rpartition(".")
        return key not in own and leaf in _RUNNING_STATISTICS and isinstance(modules.get(owner), nn.InstanceNorm2d)

    counters = {key: value for key, value in own.items() if key.endswith(_COUNTER)}
    return {**counters, **{key: value for key, value in state.items() if not is_leftover(key)}}


def _misfit(content: Any, path: Path, describe: Describe, network: nn.Module) -> str:
    """Why nothing in ``content`` fits the network."""
    states = [candidate.state for candidate in _candidates(content) if not candidate.prefix]
    if not states:
        what = f"entries {', '.join(map(repr, content))}" if isinstance(content, Mapping) else type(content).__name__
        return f"{path} is not a network's state dict but holds {what}; give a file with one tensor per parameter."
    described = [found for state in states if (found := describe(state))]
    if not described:
        names = ", ".join(list(states[0])[:2])
        return f"{path} is of no architecture known here (its parameters: {names}, …); give a file of this model."
    return _mismatch(path, described[0], describe(network.state_dict()))


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
