"""README's figures are those of the model that ships and of the recorded measurements."""

from __future__ import annotations

import json

from scripts.update_readme import FIGURES, README, STRIP, blocks, filled, hash_of_weights, read_card

MOST_WORDS = 1200
LARGEST_STRIP = 400_000  # bytes


def test_the_figures_in_the_text_are_the_recorded_ones() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    assert filled(text, blocks(figures, read_card())) == text


def test_the_figures_are_of_the_model_that_ships() -> None:
    assert json.loads(FIGURES.read_text(encoding="utf-8"))["weights"] == hash_of_weights()


def test_the_card_is_of_the_model_that_ships() -> None:
    assert read_card()["model"]["sha256"] == hash_of_weights()


def test_the_first_page_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS
    assert STRIP.stat().st_size < LARGEST_STRIP
