"""The page of a running training."""

from __future__ import annotations

import getpass
import json
import math
import platform
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from options import parse_train
from options.parse import option_facts
from util.environment import describe_environment, git_commit
from util.errors import UserError
from util.pages.training_page import OptionFact, RunFacts
from util.trackers.csv_files import CsvFiles
from util.trackers.page import WebPage
from util.trackers.tracker import Report


class Page(HTMLParser):
    """Collects start tags and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def progress_at(total: int) -> Report:
    return Report((total - 1) // 100 + 1, 4, (total - 1) % 100 + 1, 100, total, 2e-4, 3.0, 0.1)


def picture(value: int, channels: int = 3) -> np.ndarray:
    return np.full((4, 6, channels), value, dtype=np.uint8)


def data_of(folder: Path) -> dict[str, Any]:
    """What the page's script is told."""
    script = (folder / "web" / "data.js").read_text(encoding="utf-8")
    return dict(json.loads(script.removeprefix("trainingData(").rstrip().removesuffix(");")))


def sources(folder: Path) -> list[Path]:
    pictures = [picture for moment in data_of(folder)["moments"] for picture in moment["pictures"].values()]
    return [folder / "web" / picture["path"] for picture in pictures]


def moments(folder: Path) -> list[int]:
    data = json.loads((folder / "web" / "manifest.json").read_text(encoding="utf-8"))
    return [moment["total_images"] for moment in data["moments"]]


def test_pictures_are_saved_as_they_are_and_named_in_words(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    page.images(progress_at(50), {"real_A": picture(7), "fake_B": picture(9, channels=1)})
    pixels = [np.asarray(Image.open(path)) for path in sources(tmp_path)]
    np.testing.assert_array_equal(pixels[0], picture(7))
    np.testing.assert_array_equal(pixels[1], picture(9)[:, :, 0])
    assert data_of(tmp_path)["words"] == {"real_A": "rainy input", "fake_B": "derained"}


def test_words_of_the_caller_are_used_and_a_label_without_words_stands_alone(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None, words={"fake_B": "ohne Regen"})
    page.images(progress_at(50), {"fake_B": picture(1), "mine": picture(2)})
    data = data_of(tmp_path)
    assert data["words"] == {"fake_B": "ohne Regen"}
    assert list(data["moments"][0]["pictures"]) == ["fake_B", "mine"]


def test_old_files_are_not_written_again(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    page.images(progress_at(50), {"fake_B": picture(1)})
    first = sources(tmp_path)[0]
    first.write_bytes(b"left alone")
    page.images(progress_at(150), {"fake_B": picture(2)})
    page.close()
    assert sources(tmp_path)[0] == first
    assert first.read_bytes() == b"left alone"


def test_resume_keeps_earlier_moments_and_drops_later_ones(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    for total in (50, 100, 150):
        page.images(progress_at(total), {"fake_B": picture(total)})
    page = WebPage(tmp_path, "run", 100)
    page.images(progress_at(200), {"fake_B": picture(200)})
    assert moments(tmp_path) == [50, 100, 200]
    assert len(sources(tmp_path)) == 3


def test_a_new_run_starts_a_new_page(tmp_path: Path) -> None:
    WebPage(tmp_path, "run", None).images(progress_at(50), {"fake_B": picture(1)})
    WebPage(tmp_path, "run", None).images(progress_at(20), {"fake_B": picture(1)})
    assert moments(tmp_path) == [20]


def test_a_new_page_leaves_nothing_of_the_earlier_one_in_its_place(tmp_path: Path) -> None:
    earlier = WebPage(tmp_path, "run", None)
    earlier.images(progress_at(50), {"fake_B": picture(1)})
    shown = [path.name for path in sources(tmp_path)]
    WebPage(tmp_path, "run", None).close()  # ends before its first pictures
    assert not (tmp_path / "web").exists()
    assert all((tmp_path / "web.previous" / "images" / name).is_file() for name in shown)

    again = WebPage(tmp_path, "run", 60)
    again.images(progress_at(70), {"fake_B": picture(2)})
    assert moments(tmp_path) == [70]
    assert len(list((tmp_path / "web" / "images").iterdir())) == 1
    WebPage(tmp_path, "run", None)
    assert len(list((tmp_path / "web.previous" / "images").iterdir())) == 1


def test_a_page_that_cannot_be_put_aside_is_named(tmp_path: Path) -> None:
    WebPage(tmp_path, "run", None).images(progress_at(50), {"fake_B": picture(1)})
    (tmp_path / "web.previous").write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match=r"web\.previous: cannot be written"):
        WebPage(tmp_path, "run", None)
    assert moments(tmp_path) == [50]


def test_a_damaged_manifest_does_not_stop_a_resumed_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{", encoding="utf-8")
    WebPage(tmp_path, "run", 10).images(progress_at(50), {"fake_B": picture(1)})
    assert moments(tmp_path) == [50]
    assert len(caplog.records) == 1 and "manifest.json" in caplog.records[0].getMessage()


def test_hostile_names_stay_text_and_inside_the_folder(tmp_path: Path) -> None:
    evil = "../</script><img src=x onerror=alert(1)>"
    facts = RunFacts(evil, (OptionFact("name", evil, "", evil, evil),), {evil: evil})
    page = WebPage(tmp_path, evil, None, facts=facts)
    page.scalars(progress_at(10), {evil: 1.0})
    page.images(progress_at(10), {evil: picture(1)})
    shown = Page(page.page.read_text(encoding="utf-8"))
    assert "img" not in shown.names
    assert shown.text.count(evil) >= 8  # title, heading, command, option, environment
    assert sources(tmp_path)[0].resolve().parent == (tmp_path / "web" / "images").resolve()
    assert next(iter(data_of(tmp_path)["losses"]["values"])) == evil


def test_curves_of_a_resumed_run_go_on_from_the_files(tmp_path: Path) -> None:
    files = CsvFiles(tmp_path, None)
    files.scalars(progress_at(50), {"G": 8.0})
    files.metrics(progress_at(50), {"psnr": 20.0})
    files.close()
    page = WebPage(tmp_path, "run", 50)
    page.scalars(progress_at(100), {"G": 2.0})
    page.metrics(progress_at(100), {"psnr": 22.5})
    page.close()
    data = data_of(tmp_path)
    assert data["losses"]["positions"] == data["metrics"]["positions"] == [0.5, 1.0]
    assert data["losses"]["values"]["G"] == [8, 2]
    assert data["metrics"]["values"]["psnr"] == [20, 22.5]
    assert data["about"]["psnr"] == {"heading": "PSNR (Y)", "unit": "dB", "higher": True, "digits": 2}


def test_what_is_not_finite_is_a_gap(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    for total, value in ((10, 1.0), (20, math.nan), (30, math.inf), (40, 0.25)):
        page.scalars(progress_at(total), {"G": value})
    page.close()
    assert data_of(tmp_path)["losses"]["values"]["G"] == [1, None, None, 0.25]


@pytest.mark.parametrize(("total", "state"), [(399, "stopped"), (400, "finished")])
def test_the_state_tells_how_a_training_ended(tmp_path: Path, total: int, state: str) -> None:
    page = WebPage(tmp_path, "run", None)
    page.scalars(progress_at(total), {"G": 1.0})
    assert data_of(tmp_path)["status"]["state"] == "running"
    page.close()
    assert data_of(tmp_path)["status"]["state"] == state


def test_the_page_is_there_from_the_first_report_on_and_updates_are_rare(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    page.scalars(progress_at(10), {"G": 1.0})
    assert page.page.is_file()
    for total in range(20, 100, 10):
        page.scalars(progress_at(total), {"G": 1.0})
    assert data_of(tmp_path)["status"]["total_images"] == 10
    page.images(progress_at(100), {"fake_B": picture(1)})
    assert data_of(tmp_path)["status"]["total_images"] == 100


def test_options_that_differ_from_the_defaults_come_first(tmp_path: Path) -> None:
    options = (OptionFact("lr", "0.1", "0.1", "training"), OptionFact("ngf", "32", "64", "networks", "channels"))
    page = WebPage(tmp_path, "run", None, facts=RunFacts("python train.py", options, {"torch": "2.9"}))
    page.scalars(progress_at(10), {"G": 1.0})
    text = Page(page.page.read_text(encoding="utf-8")).text
    assert text.index("--ngf") < text.index("--lr")
    assert "32 instead of 64" in text and "instead of 0.1" not in text
    assert "torch2.9" in text


def test_the_facts_of_a_run_compare_with_its_models_defaults(tmp_path: Path) -> None:
    opt = parse_train(["--dataroot", str(tmp_path), "--model", "cut", "--CUT_mode", "FastCUT", "--lr", "0.001"])
    facts = {fact.name: fact for fact in option_facts(opt)}
    assert facts["lr"].changed and facts["lr"].default == "0.0002"
    assert facts["CUT_mode"].changed
    assert not facts["lambda_NCE"].changed  # 10 is FastCUT's own
    assert facts["lambda_NCE"].value == "10.0"
    assert facts.keys() == vars(opt).keys() - {"config", "recipe", "continue_train", "epoch", "epoch_count"}


def test_the_environment_names_no_place_and_nobody() -> None:
    facts = describe_environment(torch.device("cpu"))
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    told = " ".join(facts.values())
    for name in {getpass.getuser(), platform.node(), str(Path.home()), str(Path.cwd())} - {""}:
        assert name not in told


def test_a_commit_is_told_only_of_a_checkout(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1", encoding="utf-8")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    whole = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert whole.startswith(git_commit(tmp_path)) and len(git_commit(tmp_path)) == 12
    (tmp_path / "file").write_text("2", encoding="utf-8")
    assert git_commit(tmp_path) == f"{whole[:12]}, with local changes"
