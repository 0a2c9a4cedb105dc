"""A dataset of rainy and clean images on disk: written by several processes, completely or not at all.

``dataset.yaml`` says how it was made and with what result; ``images.csv`` lists every image with its rain, its PSNR
against the clean image and a hash of its pixels.
"""

from __future__ import annotations

import csv
import hashlib
import io
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import scipy  # type: ignore[import-untyped]

from data.manifest import write_manifest
from data.rain.image_job import Output, make_images
from data.rain.plan import RULES, Job, Settings
from util.errors import UserError
from util.pictures.refusals import NoFile, require_file
from util.staging import Staging

LIST = "images.csv"
MADE_BY = "synthesize_rain"
# Raise when the same inputs and settings give other files, so that datasets of before are not taken for equal.
VERSION = 1
PSNR_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Inputs:
    """What is read: folders as the user named them, and the jobs."""

    clean: Path
    depth: Path | None
    jobs: Sequence[Job]


def fingerprint(inputs: Inputs, settings: Settings) -> str:
    """SHA-256 that changes with anything the outputs depend on: contents and names of the inputs, settings, version.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256(f"{VERSION} {sorted(asdict(settings).items())}\n".encode())
    for job in sorted(inputs.jobs, key=lambda job: job.name):
        for path in (job.clean, job.depth):
            if path is not None:
                try:
                    require_file(path)
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                except (OSError, NoFile) as error:
                    reason = error.strerror if isinstance(error, OSError) else error
                    raise UserError(f"'{path}' cannot be read ({reason}); check it and its permissions.") from error
                digest.update(f"{job.name}\t{content}\n".encode("utf-8", errors="surrogateescape"))
    return digest.hexdigest()


def write_dataset(
    inputs: Inputs, settings: Settings, out: Path, *, mark: str, workers: int = 1, progress: bool = False
) -> dict[str, Any]:
    """Write the dataset to ``out``, replacing what is there, and return its manifest.

    ``mark`` is its :func:`fingerprint`. Outputs do not depend on ``workers``.

    Raises:
        UserError: an image or depth file that cannot be used, or a file that cannot be written; ``out`` is as before.
    """
    with Staging(out, "--out") as staging:
        with _results(inputs.jobs, settings, staging.folder, workers) as results:
            outputs = list(_shown(results, len(inputs.jobs), progress))
        _write_list(staging.folder / LIST, outputs)
        manifest = write_manifest(staging.folder, MADE_BY, mark, _about(inputs, settings, outputs))
        staging.publish()
    return manifest


@contextmanager
def _results(jobs: Sequence[Job], settings: Settings, folder: Path, workers: int) -> Iterator[Iterable[list[Output]]]:
    """The outputs of each job, in the order of ``jobs``. No worker is left at the end, whatever happens before."""
    work = partial(make_images, settings=settings, folder=folder)
    if workers <= 1:
        yield map(work, jobs)
        return
    pool = ProcessPoolExecutor(max_workers=min(workers, len(jobs)), initializer=_leave_interrupts_to_the_main_process)
    try:
        yield pool.map(work, jobs)
    except BrokenProcessPool as error:
        raise UserError(
            f"--workers {workers}: a worker process was ended from outside, perhaps for want of memory; use fewer."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_main_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _shown(results: Iterable[list[Output]], total: int, progress: bool) -> Iterator[Output]:
    from tqdm import tqdm

    # Nothing is drawn where standard error is no terminal.
    for outputs in tqdm(results, total=total, unit="image", disable=None if progress else True):
        yield from outputs


def _write_list(path: Path, outputs: Sequence[Output]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file", "side", "source", "bytes", "sha256", *_weather_columns(outputs)], restval="")
    writer.writeheader()
    for output in outputs:
        row = {"file": output.file, "side": output.side, "source": output.source, "bytes": output.bytes}
        writer.writerow({**row, "sha256": output.sha256, **output.weather})
    path.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace", newline="")


def _weather_columns(outputs: Sequence[Output]) -> list[str]:
    return next((list(output.weather) for output in outputs if output.weather), [])


def _about(inputs: Inputs, settings: Settings, outputs: Sequence[Output]) -> dict[str, Any]:
    values = [float(output.weather["psnr"]) for output in outputs if output.weather]
    quantiles = np.percentile(values, PSNR_PERCENTILES, method="nearest")
    return {
        "version": VERSION,
        "source": {"clean": inputs.clean.as_posix(), "depth": inputs.depth.as_posix() if inputs.depth else None},
        "settings": {**asdict(settings), "size": list(settings.size) if settings.size else None},
        "rule": RULES[settings.layout],
        "counts": {f"{settings.phase}{side}": sum(output.side == side for output in outputs) for side in ("A", "B")},
        "input_psnr": {f"p{rank}": round(float(q), 2) for rank, q in zip(PSNR_PERCENTILES, quantiles, strict=True)},
        "sha256": {
            "file_list": _hash_lines(output.file for output in outputs),
            "images": _hash_lines(f"{output.file}\t{output.sha256}" for output in outputs),
        },
        "made_with": {"numpy": np.__version__, "scipy": scipy.__version__, "pillow": PIL.__version__},
    }


def _hash_lines(lines: Iterable[str]) -> str:
    text = "".join(f"{line}\n" for line in sorted(lines))
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()
