"""The folder of a test's results: whole or untouched, in words that fit the direction."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_program
from models.networks import create_generator
from util.engine.weights import save_nets
from util.errors import UserError
from util.metrics.metric import shown_metrics
from util.metrics.protocols import PROTOCOLS
from util.pages.labels import LABEL_WORDS, headings
from util.pages.manifest import ResultManifest, load_manifest
from util.results import ResultFolder

NO_SPACE = OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The program sets up logging to the standard error of this test, which later tests do not have."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def fill(path: Path, level: float = 0.5, *, paired: bool = False, direction: str = "AtoB", protocol: str = "y") -> None:
    """Write results with one image whose pixels have ``level``."""
    noise = torch.linspace(-0.1, 0.1, 3 * 12 * 16).view(1, 3, 12, 16)
    images = {"real_A": level + noise, "fake_B": level - noise}
    if paired:
        images["real_B"] = torch.full_like(noise, level)
    with ResultFolder(path, headings(direction)) as results:
        results.add("street", images)
        results.finish(title="run", notes=(), protocol=protocol)


def shown(path: Path) -> int:
    """The brightness of the results that lie at ``path``."""
    return round(float(np.asarray(Image.open(path / "images" / "fake_B" / "street.png")).mean()))


def manifest_of(path: Path) -> ResultManifest:
    return load_manifest(path / "manifest.json")


def left(path: Path) -> list[str]:
    return sorted(item.name for item in path.parent.iterdir())


def test_new_results_replace_the_old_and_leave_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "run" / "test_latest"
    fill(path, 0.5)
    fill(path, -0.5)
    assert shown(path) == 64
    assert left(path) == ["test_latest"]


def test_two_tests_of_one_run_do_not_mix_their_results(tmp_path: Path) -> None:
    path = tmp_path / "run" / "test_latest"
    with ResultFolder(path, headings("AtoB")) as first:
        first.add("street", {"real_A": torch.zeros(1, 3, 12, 16), "fake_B": torch.full((1, 3, 12, 16), 0.5)})
        with pytest.raises(UserError, match=r"--results_dir .*test_latest: process .* is writing there; wait for it"):
            fill(path, -0.5)
        first.finish(title="run", notes=(), protocol="y")
    assert shown(path) == 191
    assert left(path) == ["test_latest"]


def test_a_file_in_the_place_of_the_folder_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "test_latest").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="test_latest: is not a folder"), ResultFolder(tmp_path / "test_latest", {}):
        pytest.fail("it went on")
    assert left(tmp_path / "test_latest") == ["test_latest"]


def test_the_page_s_columns_have_the_words_given_and_the_target_is_the_ground_truth(tmp_path: Path) -> None:
    with ResultFolder(tmp_path / "out", {"real_A": "wet", "real_B": "something else"}) as results:
        results.add("a", {label: torch.zeros(1, 3, 12, 12) for label in ("real_A", "fake_B", "real_B")})
        results.finish(title="run", notes=(), protocol="y")
    manifest = manifest_of(tmp_path / "out")
    assert [(column.label, column.heading) for column in manifest.columns] == [
        ("real_A", "wet"),
        ("fake_B", "fake_B"),
        ("real_B", "ground truth"),
    ]


def test_the_other_direction_never_speaks_of_rain(tmp_path: Path) -> None:
    fill(tmp_path / "out", paired=True, direction="BtoA")
    words = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    body = re.sub(r"<(style|script)\b.*?</\1>", "", words, flags=re.DOTALL)
    assert "input" in body and "output" in body
    assert "rain" not in body.lower()


def test_both_directions_have_words_for_the_same_labels() -> None:
    assert headings("AtoB") == LABEL_WORDS
    assert headings("BtoA").keys() == LABEL_WORDS.keys()
    assert not any("rain" in words for words in headings("BtoA").values())
    assert len(set(headings("BtoA").values())) == len(LABEL_WORDS)


def test_a_direction_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="AtoC"):
        headings("AtoC")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_page_names_metrics_as_everything_else_does(tmp_path: Path, protocol: str) -> None:
    fill(tmp_path / "out", paired=True, protocol=protocol)
    manifest, shown = manifest_of(tmp_path / "out"), shown_metrics(PROTOCOLS[protocol])
    assert [metric.heading for metric in manifest.metrics] == [metric.heading(PROTOCOLS[protocol]) for metric in shown]
    assert list(manifest.rows[0].scores["fake_B"]) == [metric.key for metric in shown]


def run_test_program(tmp_path: Path, dataset: Path, *flags: str) -> Path:
    """Test a tiny untrained generator and return the folder of its results."""
    run = tmp_path / "checkpoints" / "run"
    run.mkdir(parents=True)
    save_nets({"G": create_generator("resnet_6blocks", 3, 3, 4)}, run, "latest")
    where = ["--dataroot", str(dataset), "--name", "run", "--checkpoints_dir", str(tmp_path / "checkpoints")]
    small = ["--model", "cut", "--netG", "resnet_6blocks", "--ngf", "4", "--gpu_ids", "-1"]
    assert test_program.main([*where, "--results_dir", str(tmp_path / "results"), *small, *flags]) == 0
    return tmp_path / "results" / "run" / "test_latest"


def test_the_page_names_the_precision_that_was_used(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_program, "set_precision", lambda precision, device: "bf16")
    notes = manifest_of(run_test_program(tmp_path, dataset, "--precision", "auto")).notes
    assert notes[0].endswith("bf16.") and "auto" not in notes[0]


def test_the_program_s_table_and_page_fit_the_direction(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_test_program(tmp_path, dataset, "--direction", "BtoA")
    table = capsys.readouterr().out
    assert re.search(r"(?m)^input +[\d.]+ ", table) and re.search(r"(?m)^output +[\d.]+ ", table)
    assert "derained" not in table and "rainy" not in table
    assert [column.heading for column in manifest_of(folder).columns] == ["input", "output", "ground truth"]


@pytest.mark.skipif(os.name == "nt", reason="names of POSIX")
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise NO_SPACE

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"street\.png: cannot be written \(No space left"):
        fill(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
