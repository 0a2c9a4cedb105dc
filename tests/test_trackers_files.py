"""Losses as files, read in any spreadsheet's dialect, and several trackers as one."""

from __future__ import annotations

import csv
import errno
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.disk_operations import operations
from util.errors import UserError
from util.trackers.csv_files import CsvFiles, read_losses
from util.trackers.history import RunHistory, Thinned
from util.trackers.tracker import Report, Trackers

PER_EPOCH = 100


def progress_at(total: int, **changes: float) -> Report:
    epoch, within = (total - 1) // PER_EPOCH + 1, (total - 1) % PER_EPOCH + 1
    fields = {
        "epoch": epoch,
        "total_epochs": 4,
        "images_in_epoch": within,
        "images_per_epoch": PER_EPOCH,
        "total_images": total,
        "learning_rate": 2e-4,
        "images_per_second": 3.0,
        "data_wait": 0.1,
    }
    return Report(**{**fields, **changes})  # type: ignore[arg-type]


def write(folder: Path, totals: list[int], resumed_at: int | None, **losses: float) -> None:
    files = CsvFiles(folder, resumed_at)
    for total in totals:
        files.scalars(progress_at(total), losses or {"G": total / 10})
    files.close()


def validate(folder: Path, totals: list[int], resumed_at: int | None, **metrics: float) -> None:
    files = CsvFiles(folder, resumed_at)
    for total in totals:
        files.metrics(progress_at(total), metrics or {"psnr": total / 10})
    files.close()


def rows_of(folder: Path, name: str = "losses.csv") -> list[list[str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


class Recorder:
    """A tracker that notes what it is told, and raises from the given report on."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.calls: list[str] = []

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.fails:
            raise OSError("disk\nfull")

    def scalars(self, progress: Report, values: Mapping[str, float]) -> None:
        self._note("scalars")

    def metrics(self, progress: Report, values: Mapping[str, float]) -> None:
        self._note("metrics")

    def images(self, progress: Report, images: Mapping[str, np.ndarray]) -> None:
        self._note("images")

    def close(self) -> None:
        self._note("close")


def test_csv_has_the_fixed_columns_then_each_loss(tmp_path: Path) -> None:
    write(tmp_path, [50, 150], None, G=0.5, D=0.25)
    assert rows_of(tmp_path) == [
        ["epoch", "images_in_epoch", "total_images", "learning_rate", "G", "D"],
        ["1", "50", "50", "0.0002", "0.5", "0.25"],
        ["2", "50", "150", "0.0002", "0.5", "0.25"],
    ]


def test_every_row_is_on_disk_before_the_file_is_closed(tmp_path: Path) -> None:
    files = CsvFiles(tmp_path, None)
    files.scalars(progress_at(7), {"G": 1.0})
    assert [row["total_images"] for row in read_losses(tmp_path / "losses.csv")] == [7]
    assert "G: 1" in (tmp_path / "loss_log.txt").read_text(encoding="utf-8")
    files.close()


def test_resume_drops_rows_later_than_the_checkpoint_and_appends(tmp_path: Path) -> None:
    write(tmp_path, [50, 100, 150], None)
    write(tmp_path, [110, 160], 100)
    table = rows_of(tmp_path)
    assert [row[2] for row in table] == ["total_images", "50", "100", "110", "160"]


def test_resume_survives_a_row_cut_off_by_a_crash(tmp_path: Path) -> None:
    write(tmp_path, [50, 100], None)
    path = tmp_path / "losses.csv"
    path.write_text(path.read_text(encoding="utf-8") + "2,10,1", encoding="utf-8")
    write(tmp_path, [150], 100)
    assert [row[2] for row in rows_of(tmp_path)] == ["total_images", "50", "100", "150"]


DIALECTS = {
    "byte order mark": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "semicolons and decimal commas": lambda text: text.replace(",", ";").replace(".", ",").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "UTF-16 and tabs": lambda text: text.replace(",", "\t").encode("utf-16"),
    "UTF-16 without mark": lambda text: text.encode("utf-16-le"),
    "quotes": lambda text: "".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in text.splitlines()
    ).encode(),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_resume_keeps_tables_that_a_spreadsheet_saved_again(tmp_path: Path, dialect: str) -> None:
    write(tmp_path, [50, 100, 150], None, G=0.25)
    validate(tmp_path, [100, 150], 150)
    as_written = {}
    for name in ("losses.csv", "metrics.csv"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        as_written[name] = [line.split(",") for line in text.splitlines()]
        (tmp_path / name).write_bytes(DIALECTS[dialect](text))
    CsvFiles(tmp_path, 150).close()
    assert rows_of(tmp_path) == as_written["losses.csv"] and len(as_written["losses.csv"]) == 4
    assert rows_of(tmp_path, "metrics.csv") == as_written["metrics.csv"]
    assert not list(tmp_path.glob("*.unreadable*"))


@pytest.mark.parametrize("content", [b"PK\x03\x04\n\x00\x01\n\x02", b"epoch,total\n1,1\n", b"Zeit|Wert\n1|2\n"])
def test_losses_that_cannot_be_read_are_kept_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "losses.csv").write_bytes(content)
    (tmp_path / "losses.unreadable.csv").write_bytes(b"kept before")
    write(tmp_path, [150], 100)
    assert (tmp_path / "losses.unreadable-2.csv").read_bytes() == content
    assert (tmp_path / "losses.unreadable.csv").read_bytes() == b"kept before"
    assert [row[2] for row in rows_of(tmp_path)] == ["total_images", "150"]
    assert "cannot be read, so the file is kept as losses.unreadable-2.csv" in caplog.text


def test_a_row_in_the_middle_that_cannot_be_read_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path, [50, 100], None)
    lines = (tmp_path / "losses.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    lines.insert(2, "1,75,75,#REF!,7.5\n")
    (tmp_path / "losses.csv").write_text("".join(lines), encoding="utf-8")
    write(tmp_path, [150], 100)
    assert "#REF!" in (tmp_path / "losses.unreadable.csv").read_text(encoding="utf-8")
    assert [row[2] for row in rows_of(tmp_path)] == ["total_images", "50", "100", "150"]


def test_a_loss_that_appears_later_gets_its_column(tmp_path: Path) -> None:
    files = CsvFiles(tmp_path, None)
    files.scalars(progress_at(10), {"G": 1.0})
    files.scalars(progress_at(20), {"G": 2.0, "inter": 3.0})
    files.scalars(progress_at(30), {"inter": 4.0})
    files.close()
    table = rows_of(tmp_path)
    assert table[0][4:] == ["G", "inter"]
    assert [row[4:] for row in table[1:]] == [["1", ""], ["2", "3"], ["", "4"]]


def test_a_new_run_keeps_the_losses_of_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, [50], None)
    before = (tmp_path / "losses.csv").read_text(encoding="utf-8")
    write(tmp_path, [20], None)
    assert (tmp_path / "losses.previous.csv").read_text(encoding="utf-8") == before
    assert [row[2] for row in rows_of(tmp_path)[1:]] == ["20"]


def test_a_run_that_ended_before_its_first_report_does_not_replace_the_losses_kept(tmp_path: Path) -> None:
    for totals in ([50], [], [20]):
        write(tmp_path, totals, None)
    assert [row["total_images"] for row in read_losses(tmp_path / "losses.previous.csv")] == [50]
    assert [row["total_images"] for row in read_losses(tmp_path / "losses.csv")] == [20]


@pytest.mark.parametrize("resumed_at", [None, 100])
@pytest.mark.parametrize("name", ["losses.csv", "metrics.csv", "loss_log.txt"])
def test_a_folder_in_the_place_of_a_file_is_named_and_nothing_is_left(
    tmp_path: Path, name: str, resumed_at: int | None
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name}: cannot be written"):
        CsvFiles(tmp_path, resumed_at)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_losses_that_cannot_be_put_aside_stay(tmp_path: Path) -> None:
    write(tmp_path, [50], None)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "losses.previous.csv").mkdir()
    with pytest.raises(UserError, match=r"losses\.previous\.csv: cannot be written"):
        CsvFiles(tmp_path, None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_losses_keep_float32_precision_and_not_a_number(tmp_path: Path) -> None:
    value = float(np.float32(0.1234567))
    write(tmp_path, [10], None, G=value, D=math.nan)
    row = read_losses(tmp_path / "losses.csv")[0]
    assert np.float32(row["G"]) == np.float32(value)
    assert math.isnan(row["D"])


def test_a_failing_tracker_is_reported_once_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = Recorder(), Recorder(fails=True)
    group = Trackers(bad, good)
    with caplog.at_level(logging.INFO):
        group.scalars(progress_at(1), {})
        group.images(progress_at(1), {}, live=False, keep=True)
        group.metrics(progress_at(1), {})
        group.scalars(progress_at(2), {})
        group.close()
    assert good.calls == ["scalars", "images", "metrics", "scalars", "close"]
    assert bad.calls == ["scalars", "close"]
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "Recorder" in message and "disk full" in message and "\n" not in message


def test_pictures_go_to_the_live_trackers_to_the_others_or_to_both() -> None:
    live, page = Recorder(), Recorder()
    trackers = Trackers(page, live=[live])
    trackers.images(progress_at(1), {}, live=True, keep=False)
    trackers.images(progress_at(2), {}, live=False, keep=True)
    assert (live.calls, page.calls) == (["images"], ["images"])
    trackers.images(progress_at(3), {}, live=True, keep=True)
    assert (live.calls, page.calls) == (["images"] * 2, ["images"] * 2)


def test_interrupting_the_training_is_not_swallowed() -> None:
    class Interrupted(Recorder):
        def scalars(self, progress: Report, values: Mapping[str, float]) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trackers(Interrupted()).scalars(progress_at(1), {})


@pytest.mark.parametrize("reports", [1, 7, 8, 9, 16, 45, 64])
def test_history_points_are_means_of_equally_many_reports(reports: int) -> None:
    history = Thinned(points=8)
    values = np.random.default_rng(reports).normal(size=reports)
    for index, value in enumerate(values):
        history.add((index + 1) / PER_EPOCH, {"G": value})
    each = 1
    while math.ceil(reports / each) > 8:
        each *= 2
    groups = [slice(start, start + each) for start in range(0, reports, each)]
    curves = history.curves()
    np.testing.assert_allclose(curves.values["G"], [values[group].mean() for group in groups])
    places = (np.arange(reports) + 1) / PER_EPOCH
    np.testing.assert_allclose(curves.positions, [places[group].mean() for group in groups])


def test_history_of_a_resumed_run_starts_with_the_file(tmp_path: Path) -> None:
    write(tmp_path, [50, 100], None)
    history = RunHistory(100, tmp_path)
    history.add_losses(progress_at(150), {"G": 15.0, "new": 1.0})
    curves = history.losses()
    np.testing.assert_allclose(curves.positions, [0.5, 1.0, 1.5])
    np.testing.assert_allclose(curves.values["G"], [5, 10, 15])
    np.testing.assert_array_equal(curves.values["new"], [math.nan, math.nan, 1])


def test_metrics_have_a_file_of_their_own_from_the_first_on(tmp_path: Path) -> None:
    write(tmp_path, [50], None)
    assert not (tmp_path / "metrics.csv").exists()
    validate(tmp_path, [100, 200], 50, psnr=20.5, ssim=math.inf)
    assert rows_of(tmp_path, "metrics.csv") == [
        ["epoch", "total_images", "psnr", "ssim"],
        ["1", "100", "20.5", "inf"],
        ["2", "200", "20.5", "inf"],
    ]
    assert "validation: psnr: 20.5" in (tmp_path / "loss_log.txt").read_text(encoding="utf-8")


def test_a_resumed_run_leaves_no_gap_and_no_repeat_in_the_metrics(tmp_path: Path) -> None:
    validate(tmp_path, [100, 200, 300], None)
    validate(tmp_path, [200, 300, 400], 200)  # the checkpoint was saved before its validation, which is made again
    assert [row[1:] for row in rows_of(tmp_path, "metrics.csv")[1:]] == [
        ["100", "10"],
        ["200", "20"],
        ["300", "30"],
        ["400", "40"],
    ]


def test_a_new_run_keeps_the_metrics_of_the_one_before(tmp_path: Path) -> None:
    validate(tmp_path, [100], None)
    before = (tmp_path / "metrics.csv").read_text(encoding="utf-8")
    write(tmp_path, [20], None)
    assert (tmp_path / "metrics.previous.csv").read_text(encoding="utf-8") == before
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize("first", ["losses", "metrics"])
def test_history_replays_both_files_whichever_report_comes_first(tmp_path: Path, first: str) -> None:
    for total in (50, 100):
        write(tmp_path, [total], total - 50 or None, G=float(total))
    validate(tmp_path, [50, 100], 100)
    history = RunHistory(100, tmp_path)
    if first == "losses":
        history.add_losses(progress_at(130), {"G": 130.0})
        history.add_metrics(progress_at(130), {"psnr": 13.0})
    else:
        history.add_metrics(progress_at(130), {"psnr": 13.0})
        history.add_losses(progress_at(130), {"G": 130.0})
    np.testing.assert_allclose(history.losses().positions, [0.5, 1.0, 1.3])
    np.testing.assert_allclose(history.losses().values["G"], [50, 100, 130])
    np.testing.assert_allclose(history.metrics().positions, [0.5, 1.0, 1.3])
    np.testing.assert_allclose(history.metrics().values["psnr"], [5, 10, 13])


@pytest.mark.parametrize("fatal", range(1, 7))
def test_a_disk_without_room_for_the_tables_is_one_sentence(tmp_path: Path, fatal: int) -> None:
    """Also where the last words of what is closed then find no room either."""

    def fail(name: str, number: int) -> None:
        if number >= fatal:
            raise OSError(errno.ENOSPC, "No space left on device")

    with operations(fail), pytest.raises(UserError, match="cannot be written"):
        CsvFiles(tmp_path, resumed_at=None).close()
