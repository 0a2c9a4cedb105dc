"""A worker of a benchmark: a process that takes commands on standard input and answers on standard output, as JSON.

Run as a file, it runs another project's checkout, whose packages are called like ours (``models``,
``data``, ``options``, ``util``) and must not be found here:

    python scripts/_benchmark/original.py CHECKOUT '{"batch_size": 1, "channels": 3, "crop_size": 256}' FLAGS...

It builds the model by the checkout's own options and factory and times its own ``optimize_parameters``, in the order of
calls that the checkout's ``train.py`` has. Standard library and PyTorch only, nothing of ours.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

KIB = 1024
Answer = Any
Commands = Mapping[str, Callable[..., Answer]]


def own_output() -> TextIO:
    """Standard output for answers alone: whatever else is printed from now on goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(commands: Commands, answers: TextIO) -> None:
    """Carry out one command after another until the input ends; an error becomes an answer as well."""
    print(json.dumps({"value": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": commands[request["do"]](**request["with"])}
        except Exception as error:  # whatever it is, the driver reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def timed(function: Callable[[], Any], device: torch.device, repeat: int = 1) -> float:
    """Seconds of one call, the mean of ``repeat`` in a row; on GPUs between two events of the device."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(repeat):
            function()
        return (time.perf_counter() - start) / repeat
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    before.record()
    for _ in range(repeat):
        function()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1e3 / repeat


def reset_peak(device: torch.device) -> None:
    """Let :func:`peak_bytes` count from here on, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes(device: torch.device) -> int:
    """Most memory held at once: allocated on the GPU, or resident of this whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * KIB
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * KIB


def random_batch(shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """A source and a target image for each place of the batch, as a data loader gives them."""
    generator = torch.Generator().manual_seed(0)
    images = {side: torch.rand(shape, generator=generator) * 2 - 1 for side in "AB"}
    paths = [f"image{number}.png" for number in range(shape[0])]
    return {**images, "A_paths": paths, "B_paths": paths}


class OriginalModel:
    """A model of CycleGAN's or CUT's own repository, built and stepped by that repository's code."""

    def __init__(self, checkout: Path, shape: tuple[int, int, int, int], flags: list[str]) -> None:
        sys.path[:] = [str(checkout), *(path for path in sys.path if Path(path).resolve() != Path(__file__).parent)]
        sys.argv = [str(checkout / "train.py"), *flags]
        from options.train_options import TrainOptions  # type: ignore[import-not-found,unused-ignore]

        import models  # the checkout's

        opt = TrainOptions().parse()  # type: ignore[no-untyped-call,unused-ignore]
        self.device = torch.device("cuda", opt.gpu_ids[0]) if opt.gpu_ids else torch.device("cpu")
        for name, default in {"amp": False, "device": self.device}.items():  # read by some versions, set by others
            if not hasattr(opt, name):
                setattr(opt, name, default)
        self._batch = random_batch(shape)
        checkouts: Any = models
        self._model = checkouts.create_model(opt)
        if hasattr(self._model, "data_dependent_initialize"):
            initialize = self._model.data_dependent_initialize
            initialize(*[self._batch][: len(inspect.signature(initialize).parameters)])  # CUT's cycle_gan takes none
        self._model.setup(opt)
        if hasattr(self._model, "parallelize"):
            self._model.parallelize()
        reset_peak(self.device)

    def step(self) -> None:
        """One training step."""
        self._model.set_input(self._batch)
        self._model.optimize_parameters()

    def commands(self) -> Commands:
        """What the driver may ask for."""
        return {
            "step": lambda repeat=1: timed(self.step, self.device, repeat),
            "peak": lambda: peak_bytes(self.device),
        }


def main() -> None:
    """Run the checkout that the command line names."""
    answers = own_output()
    checkout, sizes, *flags = sys.argv[1:]
    shape = json.loads(sizes)
    side = shape["crop_size"]
    model = OriginalModel(Path(checkout).resolve(), (shape["batch_size"], shape["channels"], side, side), flags)
    serve(model.commands(), answers)


if __name__ == "__main__":
    main()
