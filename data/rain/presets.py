"""Which rain an image gets: recipes with a range for everything, and presets that choose among recipes.

``light``, ``medium`` and ``heavy`` are natural rain with the fog of the RainCityscapes sets of the same names.
``mixed`` is meant for training a network for any rain: besides those it draws rain as the published benchmarks have
it (few long streaks of one direction, crossing directions, image-editor rain of any size and slant, fine real rain)
and photographs without fog. ``streaks`` has only what shows clearly even without fog: it is meant for unpaired
training, where a discriminator must learn what rain is. Lengths are pixels of an image whose shorter side has
``streaks.REFERENCE_SIDE`` pixels. ``demo`` is what the demo's small network learns to remove: dense rain of short,
bright streaks and hardly any veil.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data.rain.depth import Road, draw_road
from data.rain.formation import PUBLISHED, WHITE, Fog, Light
from data.rain.streaks import Curtain, Pattern

Range = tuple[float, float]
Formation = Literal["fog", "veil", "add"]
"""The three ways of :mod:`data.rain.formation`: ``form_image``, ``cover`` and ``add_streaks``."""

NONE: Range = (0.0, 0.0)
# Out-of-focus streaks right before the lens, relative to the near ones: this much longer and wider, and this bright.
DEFOCUS_LENGTH, DEFOCUS_WIDTH, DEFOCUS_PEAK = (1.0, 2.0), (3.0, 7.0), (0.08, 0.25)
# Fine streaks of the grain: full width at half maximum in pixels, and relative distance of the farthest.
GRAIN_WIDTH, GRAIN_FAR = (1.0, 1.8), 2.0
GRAIN_VARIATION = 0.9
# Drops show the light around them: this much of the scene's bright parts, as gray with a breath of blue.
SCENE_LIGHT, DARKEST_LIGHT = (0.9, 1.12), 0.45
BLUE = (0.975, 0.99, 1.0)


@dataclass(frozen=True)
class Recipe:
    """Ranges ``(low, high)`` from which the rain of one image is drawn, uniformly.

    ``near_*``: the streaks one can tell apart, as in :class:`~data.rain.streaks.Curtain`; ``far``: its ``far``.
    ``grain_*``: fine rain behind them. ``defocus``: out-of-focus streaks per 10,000 pixels. ``directions``: how many
    curtains of near streaks, ``spread`` degrees around the image's ``angle``. ``formation``: which equation;
    ``fog`` names the RainCityscapes set for ``fog``, ``veil`` is v of ``veil``. ``white``: streaks are white and not of
    the scene's light. ``size``: factor on all lengths and widths, drawn evenly in its logarithm.
    """

    name: str
    formation: Formation
    near_density: Range
    near_length: Range
    near_width: Range
    near_peak: Range
    far: Range = (2.0, 4.0)
    bead: Range = (0.0, 0.5)
    grain_density: Range = NONE
    grain_length: Range = (6.0, 16.0)
    grain_peak: Range = (0.04, 0.1)
    defocus: Range = NONE
    directions: tuple[int, int] = (1, 1)
    angle: Range = (-22.0, 22.0)
    spread: float = 0.0
    jitter: Range = (0.6, 2.5)
    gust: Range = (0.1, 0.35)
    fog: str = ""
    veil: Range = NONE
    white: bool = False
    size: Range = (0.75, 1.35)


@dataclass(frozen=True)
class Weather:
    """The rain of one image. ``size``: factor on lengths and widths. ``light``: E and, in shades of it, A0 and V."""

    recipe: str
    formation: Formation
    pattern: Pattern
    size: float
    angle: float
    light: Light
    fog: Fog | None
    veil: float
    road: Road


LIGHT = Recipe(
    "light", "fog", fog="light",
    near_density=(8.0, 22.0), near_length=(26.0, 60.0), near_width=(1.5, 2.4), near_peak=(0.45, 0.85),
    grain_density=(100.0, 300.0), grain_length=(7.0, 18.0), grain_peak=(0.05, 0.13),
)  # fmt: skip
MEDIUM = Recipe(
    "medium", "fog", fog="medium",
    near_density=(18.0, 42.0), near_length=(30.0, 80.0), near_width=(1.6, 2.7), near_peak=(0.5, 0.95),
    grain_density=(150.0, 500.0), grain_length=(8.0, 24.0), grain_peak=(0.08, 0.2), defocus=(0.0, 0.5),
)  # fmt: skip
HEAVY = Recipe(
    "heavy", "fog", fog="heavy",
    near_density=(40.0, 85.0), near_length=(34.0, 100.0), near_width=(1.7, 3.0), near_peak=(0.6, 1.1),
    grain_density=(300.0, 900.0), grain_length=(10.0, 30.0), grain_peak=(0.12, 0.3), defocus=(0.0, 1.0),
    gust=(0.2, 0.5),
)  # fmt: skip
PHOTO = Recipe(
    "photo", "veil", veil=(0.0, 0.22),
    near_density=(6.0, 70.0), near_length=(18.0, 80.0), near_width=(1.2, 2.6), near_peak=(0.25, 0.9),
    far=(2.5, 5.0), bead=(0.0, 0.7), grain_density=(60.0, 600.0), grain_length=(8.0, 28.0), grain_peak=(0.05, 0.24),
    defocus=(0.0, 0.8), gust=(0.15, 0.5), size=(0.6, 1.6),
)  # fmt: skip
SPARSE = Recipe(
    "sparse", "add", white=True,
    near_density=(3.0, 20.0), near_length=(36.0, 110.0), near_width=(1.2, 2.5), near_peak=(0.25, 0.75),
    far=(1.0, 3.0), bead=(0.0, 0.3), angle=(-35.0, 35.0), jitter=(0.1, 1.5), gust=NONE,
)  # fmt: skip
CROSSED = Recipe(
    "crossed", "add", white=True, directions=(2, 5), spread=35.0,
    near_density=(6.0, 26.0), near_length=(26.0, 100.0), near_width=(1.1, 2.6), near_peak=(0.3, 0.75),
    far=(1.0, 3.0), angle=(-15.0, 15.0), jitter=(0.3, 3.0), gust=(0.0, 0.2),
)  # fmt: skip
EDITOR = Recipe(
    "editor", "veil", veil=(0.0, 0.06), white=True,
    near_density=(8.0, 80.0), near_length=(12.0, 90.0), near_width=(1.0, 3.0), near_peak=(0.12, 0.5),
    far=(1.0, 2.5), bead=(0.0, 0.2), grain_density=(0.0, 500.0), angle=(-45.0, 45.0), jitter=(0.0, 1.0),
    gust=(0.0, 0.3), size=(0.6, 1.8),
)  # fmt: skip
FINE = Recipe(
    "fine", "veil", veil=(0.0, 0.12),
    near_density=(6.0, 40.0), near_length=(10.0, 36.0), near_width=(1.0, 1.7), near_peak=(0.2, 0.6),
    grain_density=(0.0, 400.0), grain_length=(5.0, 14.0), grain_peak=(0.03, 0.14), angle=(-15.0, 15.0),
    size=(0.6, 1.5),
)  # fmt: skip
DEMO = Recipe(
    "demo", "veil", veil=(0.0, 0.04), white=True,
    near_density=(14.0, 24.0), near_length=(48.0, 100.0), near_width=(3.0, 4.5), near_peak=(0.65, 0.9),
    far=(2.0, 2.0), bead=NONE, angle=(-25.0, 25.0), jitter=(0.5, 2.0), gust=NONE, size=(1.0, 1.0),
)  # fmt: skip

PRESETS: Mapping[str, tuple[tuple[float, Recipe], ...]] = {
    "light": ((1.0, LIGHT),),
    "medium": ((1.0, MEDIUM),),
    "heavy": ((1.0, HEAVY),),
    "mixed": (
        (0.12, LIGHT), (0.11, MEDIUM), (0.05, HEAVY), (0.25, PHOTO),
        (0.16, SPARSE), (0.07, CROSSED), (0.13, EDITOR), (0.11, FINE),
    ),
    "streaks": ((0.40, HEAVY), (0.10, PHOTO), (0.12, SPARSE), (0.25, CROSSED), (0.13, EDITOR)),
    "demo": ((1.0, DEMO),),
}  # fmt: skip
"""Recipes of each preset with their probabilities."""


def draw_weather(preset: str, scene_light: float, rng: np.random.Generator, *, fog: bool = True) -> Weather:
    """Choose the rain of one image.

    ``preset``: a key of :data:`PRESETS`. ``scene_light``: brightness of the image's bright parts in [0, 1]. Without
    ``fog`` there is neither fog nor veil.
    """
    weights, recipes = zip(*PRESETS[preset], strict=True)
    recipe = recipes[rng.choice(len(recipes), p=weights)]
    angle = rng.uniform(*recipe.angle)
    near = _near(recipe, angle, rng)
    curtains = [near]
    for _ in range(int(rng.integers(recipe.directions[0], recipe.directions[1] + 1)) - 1):
        curtains.append(replace(_near(recipe, angle, rng), angle=angle + rng.uniform(-recipe.spread, recipe.spread)))
    curtains.append(_defocused(near, rng.uniform(*recipe.defocus), rng))
    grain = Curtain(
        density=rng.uniform(*recipe.grain_density),
        length=rng.uniform(*recipe.grain_length),
        width=rng.uniform(*GRAIN_WIDTH),
        angle=angle,
        jitter=near.jitter,
        peak=rng.uniform(*recipe.grain_peak),
        variation=GRAIN_VARIATION,
        far=GRAIN_FAR,
    )
    pattern = Pattern(
        near=tuple(curtain for curtain in curtains if curtain.density > 0),
        grain=(grain,) if grain.density > 0 else (),
        gust=rng.uniform(*recipe.gust),
    )
    light, haze = (min(1.0, max(DARKEST_LIGHT, scene_light) * rng.uniform(*SCENE_LIGHT)) for _ in range(2))
    return Weather(
        recipe=recipe.name,
        formation=recipe.formation if fog or recipe.formation == "add" else "veil",
        pattern=pattern,
        size=float(np.exp(rng.uniform(*np.log(recipe.size)))),
        angle=angle,
        light=WHITE if recipe.white else _tinted(light),
        fog=replace(PUBLISHED[recipe.fog], light=_tinted(haze)) if recipe.fog and fog else None,
        veil=rng.uniform(*recipe.veil) if fog else 0.0,
        road=draw_road(rng),
    )


def _near(recipe: Recipe, angle: float, rng: np.random.Generator) -> Curtain:
    return Curtain(
        density=rng.uniform(*recipe.near_density),
        length=rng.uniform(*recipe.near_length),
        width=rng.uniform(*recipe.near_width),
        angle=angle,
        jitter=rng.uniform(*recipe.jitter),
        peak=rng.uniform(*recipe.near_peak),
        far=rng.uniform(*recipe.far),
        bead=rng.uniform(*recipe.bead),
    )


def _defocused(near: Curtain, density: float, rng: np.random.Generator) -> Curtain:
    """Streaks of the same rain right before the lens: long, wide, blurred and faint."""
    return replace(
        near,
        density=density,
        length=near.length * rng.uniform(*DEFOCUS_LENGTH),
        width=near.width * rng.uniform(*DEFOCUS_WIDTH),
        peak=rng.uniform(*DEFOCUS_PEAK),
        far=1.5,
        bead=0.0,
        defocus=True,
    )


def _tinted(brightness: float) -> Light:
    red, green, blue = (brightness * share for share in BLUE)
    return red, green, blue
