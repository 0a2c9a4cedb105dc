"""Streams: which are drawn together, and how many images a batch has."""

from __future__ import annotations

import pytest
import torch

from util.engine.step import batch_images
from util.streams import UNPAIRED, Stream, folder_ends, groups, source, source_and_target, target


def test_unpaired_streams_are_groups_of_their_own() -> None:
    assert [[stream.name for stream in group] for group in groups(UNPAIRED)] == [["A"], ["B"]]


def test_paired_streams_are_drawn_together_through_any_chain() -> None:
    streams = (Stream("A", paired_with="R"), Stream("B", paired_with="A"), Stream("U"), Stream("R"))
    assert [[stream.name for stream in group] for group in groups(streams)] == [["A", "B", "R"], ["U"]]


@pytest.mark.parametrize("streams", [(Stream("A"), Stream("A")), (Stream("B", paired_with="A"),)])
def test_streams_that_make_no_sense_are_an_error(streams: tuple[Stream, ...]) -> None:
    with pytest.raises(ValueError, match="not there"):
        groups(streams)


def test_source_and_target_are_the_first_two() -> None:
    assert source(UNPAIRED).name == "A"
    assert (target(UNPAIRED), target(UNPAIRED[:1])) == (UNPAIRED[1], None)


def test_a_batch_is_counted_by_its_first_stream() -> None:
    assert batch_images({"note": "x", "U": torch.empty(3, 1, 2, 2), "U_paths": ["a", "b", "c"]}) == 3


def test_b_to_a_swaps_the_folders_of_a_and_b_alone() -> None:
    streams = (*UNPAIRED, Stream("U"))
    assert (folder_ends(streams, "AtoB"), folder_ends(streams, "BtoA")) == (("A", "B", "U"), ("B", "A", "U"))


@pytest.mark.parametrize(("direction", "expected"), [("AtoB", ("A", "B")), ("BtoA", ("B", "A"))])
def test_a_model_of_one_stream_is_tested_against_the_other_folder(direction: str, expected: tuple[str, str]) -> None:
    assert source_and_target((Stream("A"),), direction) == source_and_target(UNPAIRED, direction) == expected
