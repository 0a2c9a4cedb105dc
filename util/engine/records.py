"""Which checkpoint is the best under each validation metric, and what it was measured by."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from util.files import write_text_atomically
from util.metrics.metric import METRICS

logger = logging.getLogger(__name__)

TEST_SPLIT = "test"
BEST_FILE = "best.yaml"
_TAG = "best_"
_HEAD = """\
# The best checkpoints of this run so far, one for each metric. Test one of them with --epoch and its name, for example:
# --epoch best_psnr
"""
CHOSEN_ON_TEST = (
    "chosen on the test split: the test scores of these checkpoints are those of the luckiest epoch; say so with them"
)


def best_tag(metric: str) -> str:
    """Under which name the best networks by ``metric`` are kept: ``best_psnr``."""
    return f"{_TAG}{metric}"


@dataclass(frozen=True)
class EvalConfig:
    """What validations are measured by; two values compare only under the same one.

    ``split`` is the phase whose folders are used, ``protocol`` the name of the metrics' protocol, ``images`` how
    many pairs there are, and ``digest`` a hash of their names.
    """

    split: str
    protocol: str
    images: int
    digest: str


@dataclass(frozen=True)
class Best:
    """The best value so far, and after which epoch and how many images in all it was reached."""

    value: float
    epoch: int
    total_images: int


@dataclass
class Records:
    """What the validations of a run have found so far; part of its training state.

    ``reference`` has the scores of the input itself, ``last`` those of the last validation, which was after
    ``last_epoch`` (0: none yet), and ``best`` the best by metric.
    """

    config: EvalConfig | None = None
    reference: dict[str, float] = field(default_factory=dict)
    last_epoch: int = 0
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, Best] = field(default_factory=dict)

    def measure_by(self, config: EvalConfig) -> bool:
        """Continue under ``config``; what was measured under another one is dropped, with a warning (True)."""
        changed = self.config not in (None, config)
        if changed:
            logger.warning(
                "validation is configured differently than before (%s), so the best checkpoints start over",
                _difference(self.config, config),
            )
            self.reference, self.last, self.best, self.last_epoch = {}, {}, {}, 0
        self.config = config
        return changed

    def add(self, values: Mapping[str, float], *, epoch: int, total_images: int) -> tuple[str, ...]:
        """Take in a validation after ``epoch``; returns the metrics by which it is the best; a tie is not better."""
        self.last_epoch, self.last = epoch, dict(values)
        improved = tuple(metric for metric, value in values.items() if self._is_record(metric, value))
        self.best.update({metric: Best(values[metric], epoch, total_images) for metric in improved})
        return improved

    def best_at(self, total_images: int) -> tuple[str, ...]:
        """The metrics whose best networks are those of the moment after ``total_images`` images."""
        return tuple(metric for metric, best in self.best.items() if best.total_images == total_images)

    def tags(self) -> str:
        """The best checkpoints in words, by epoch: ``best_psnr, best_psnr_rgb (epoch 4); best_ssim (epoch 6)``."""
        metrics = {
            epoch: [best_tag(metric) for metric, best in self.best.items() if best.epoch == epoch]
            for epoch in sorted(best.epoch for best in self.best.values())
        }
        return "; ".join(f"{', '.join(tags)} (epoch {epoch})" for epoch, tags in metrics.items())

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        state = dataclasses.asdict(self)
        return {"yardstick": state.pop("config"), **state}  # the key of runs from before

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self.config = EvalConfig(**state["yardstick"]) if state["yardstick"] else None
        self.reference, self.last = dict(state["reference"]), dict(state["last"])
        self.last_epoch = state["last_epoch"]
        self.best = {metric: Best(**best) for metric, best in state["best"].items()}

    def write(self, folder: Path) -> None:
        """Write ``best.yaml`` for people, and for :func:`choice_of`.

        Raises:
            UserError: it cannot be written.
        """
        content: dict[str, Any] = dataclasses.asdict(self.config) if self.config else {}
        if content.get("split") == TEST_SPLIT:
            content["note"] = CHOSEN_ON_TEST
        content["best"] = {best_tag(metric): dataclasses.asdict(best) for metric, best in self.best.items()}
        content["last"] = {"epoch": self.last_epoch, **self.last}
        content["input"] = self.reference
        write_text_atomically(folder / BEST_FILE, _HEAD + yaml.safe_dump(content, sort_keys=False, width=120))

    def _is_record(self, metric: str, value: float) -> bool:
        if math.isnan(value):
            return False
        return metric not in self.best or METRICS[metric].is_better(value, self.best[metric].value)


def choice_of(folder: Path, tag: str, phase: str) -> str:
    """How the networks under ``tag`` in a run's ``folder`` were chosen, as a sentence for a test on ``phase``.

    Empty where no validation chose them.
    """
    path = folder / BEST_FILE
    if not tag.startswith(_TAG) or not path.is_file():
        return ""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        split, epoch = content["split"], content["best"][tag]["epoch"]
        measured = f"{content['images']} images, protocol {content['protocol']}"
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        logger.warning("%s does not tell how %s was chosen", path, tag)
        return ""
    sentence = f"{tag} is epoch {epoch}, chosen on the {split} split ({measured})"
    return f"{sentence}, the one tested here, so its scores flatter it." if split == phase else f"{sentence}."


def _difference(before: EvalConfig | None, now: EvalConfig) -> str:
    old, new = dataclasses.asdict(before or now), dataclasses.asdict(now)
    changed = [
        f"{name} {old[name]} -> {new[name]}" for name in ("split", "protocol", "images") if old[name] != new[name]
    ]
    return ", ".join(changed) or "other images"
