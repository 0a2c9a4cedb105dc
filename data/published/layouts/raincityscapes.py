"""RainCityscapes (Hu et al., CVPR 2019): 262 + 33 Cityscapes scenes, each in 36 kinds of rain.

Two releases: DAF-Net's (``train/ test/`` rainy, ``image/`` clean) and Cityscapes' own (``leftImg8bit_rain/train|val/
<city>/``), whose clean images are in Cityscapes' ``leftImg8bit`` archive. Names tell everything, folders are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from data.published.layouts.base import Layout, ReadText
from data.published.members import Found, Member, Pair, Picture, some
from data.published.splitting import SplitRule

SCENES_FILE = Path(__file__).resolve().parents[1] / "raincityscapes_scenes.json"
SCENE = r"(?P<scene>[a-z]+_\d{6}_\d{6})"
RAINY = re.compile(SCENE + r"(?:_leftImg8bit)?_rain_(?P<version>alpha_[\d.]+_beta_[\d.]+_dropsize_[\d.]+_pattern_\d+)")
CLEAN = re.compile(SCENE + "_leftImg8bit")


@dataclass(frozen=True)
class Scenes:
    """Which scenes a complete set has, and in which versions each."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    versions: frozenset[str]

    @classmethod
    def published(cls) -> Scenes:
        """The lists of the publication: 262 training scenes, 33 test scenes, 3 intensities × 12 patterns."""
        lists = json.loads(SCENES_FILE.read_text(encoding="utf-8"))
        versions = frozenset(
            f"alpha_{v['alpha']}_beta_{v['beta']}_dropsize_{v['dropsize']}_pattern_{pattern}"
            for v, pattern in product(lists["variants"], lists["patterns"])
        )
        return cls(tuple(lists["train"]), tuple(lists["test"]), versions)


@dataclass(frozen=True)
class RainCityscapes(Layout):
    """Recognized by its file names."""

    title = "RainCityscapes"
    rule_text = (
        "training scenes sorted by name take turns: 1st, 3rd, ... rainy side, 2nd, 4th, ... clean side; of the rainy "
        "side's images sorted by name those at floor(i*N/1400), of the test images those at floor(i*N/175)"
    )
    rule: SplitRule = field(default_factory=lambda: SplitRule(rainy=1400, test=175))
    scenes: Scenes = field(default_factory=Scenes.published)

    def recognizes(self, members: Sequence[Member]) -> bool:
        """Any rainy file name will do; plain Cityscapes has none."""
        return any(RAINY.fullmatch(member.stem) for member in members)

    def find(self, members: Sequence[Member], read_text: ReadText) -> Found:
        """Pair each rainy image with the clean one of its scene."""
        found = Found()
        clean: dict[str, Member] = {}
        rainy: dict[tuple[str, str], Member] = {}
        known = {*self.scenes.train, *self.scenes.test}
        for member in members:
            if member.suffix != ".png":
                continue
            if match := CLEAN.fullmatch(member.stem):
                if match["scene"] in known:
                    clean.setdefault(match["scene"], member)
            elif match := RAINY.fullmatch(member.stem):
                key = match["scene"], match["version"]
                if key in rainy:
                    found.problems.append(f"'{rainy[key]}' and '{member}' are the same image")
                rainy[key] = member
        for scenes, pairs in ((self.scenes.train, found.train), (self.scenes.test, found.test)):
            pairs += [_pair(scene, v, file, clean[scene]) for (scene, v), file in rainy.items()
                      if scene in scenes and scene in clean and v in self.scenes.versions]  # fmt: skip
        self._check(found, clean, rainy)
        return found

    def _check(self, found: Found, clean: dict[str, Member], rainy: dict[tuple[str, str], Member]) -> None:
        complete = {*self.scenes.train, *self.scenes.test}
        seen = {scene for scene, _ in rainy}
        count = len(self.scenes.versions)
        foreign = {scene for scene, _ in rainy if scene not in complete}
        partial = {
            scene for scene in complete & seen if any((scene, version) not in rainy for version in self.scenes.versions)
        }
        odd = {version for _, version in rainy if version not in self.scenes.versions}
        lists = (
            (complete - seen, "scene(s) have no rainy image"),
            (partial, f"scene(s) have fewer than {count} rainy versions"),
            (foreign, "scene(s) are not of RainCityscapes"),
            (odd, "kind(s) of rain are not of RainCityscapes"),
        )
        found.problems += [f"{len(names)} {what} ({some(names)})" for names, what in lists if names]
        without = (complete & seen) - set(clean)
        if without:
            advice = "; Cityscapes keeps them in leftImg8bit_trainvaltest.zip, give it as a second --source"
            found.problems.append(
                f"{len(without)} scene(s) have no clean image ({some(without)}){'' if clean else advice}"
            )


def _pair(scene: str, version: str, rainy: Member, clean: Member) -> Pair:
    return Pair(f"{scene}_rain_{version}", Picture(rainy), Picture(clean), scene, scene, scene)
