"""The progress of an epoch in the terminal and in plain log lines."""

from __future__ import annotations

import logging

import pytest

from util.trackers.console import EpochBar, format_duration

LOGGER = "util.trackers.console"


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(bar: EpochBar, clock: Clock, steps: int, data_seconds: float, step_seconds: float, images: int = 2) -> None:
    for _ in range(steps):
        clock.now += data_seconds + step_seconds
        bar.update(images=images, data_seconds=data_seconds, step_seconds=step_seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (200, "3m 20s"), (50700, "14h 05m"), (183600, "2d 03h")],
)
def test_durations_are_written_in_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_an_unknown_duration_is_a_question_mark() -> None:
    assert format_duration(float("inf")) == "?"


def test_speed_and_both_estimates_come_from_the_clock() -> None:
    clock = Clock()
    with EpochBar(2, 5, 100, terminal=False, clock=clock) as bar:
        run(bar, clock, 1, 10.0, 90.0)  # a slow first step is not the speed
        run(bar, clock, 9, 0.1, 0.4)
        assert bar.images_per_second == pytest.approx(4.0)
        assert bar.data_wait == pytest.approx(0.2)
        assert bar.seconds_left_in_epoch == pytest.approx(80 / 4)
        assert bar.seconds_left_in_training == pytest.approx(80 / 4 + 3 * 100 / 4)


def test_time_between_steps_counts() -> None:
    clock = Clock()
    with EpochBar(1, 1, 100, terminal=False, clock=clock) as bar:
        run(bar, clock, 1, 0.0, 1.0)
        clock.now += 7.0  # saving a checkpoint
        run(bar, clock, 1, 0.0, 1.0)
        assert bar.images_per_second == pytest.approx(2 / 8)


def test_a_resumed_epoch_has_less_left() -> None:
    clock = Clock()
    with EpochBar(1, 1, 100, start_image=60, terminal=False, clock=clock) as bar:
        run(bar, clock, 1, 0.0, 2.0)
        assert bar.images_per_second == pytest.approx(1.0)
        assert bar.seconds_left_in_epoch == pytest.approx(38)


def test_the_hint_serves_until_there_is_a_measurement() -> None:
    with EpochBar(1, 2, 100, seconds_per_image_hint=0.5, terminal=False, clock=Clock()) as bar:
        assert bar.seconds_left_in_training == pytest.approx(100)


def test_plain_lines_come_at_most_every_few_seconds_and_once_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level(logging.INFO, LOGGER), EpochBar(1, 3, 8, terminal=False, clock=clock) as bar:
        for step in range(4):
            run(bar, clock, 1, 0.0, 2.0)
            bar.show({"G_GAN": 0.25 * step})
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3: 2/8, 1 img/s, data wait 0%, left: epoch 6s, training 22s, G_GAN 0")
    assert "8/8" in lines[1]
    assert lines[2].startswith("epoch 1/3 done in 8s")


@pytest.mark.parametrize(("start_image", "steps", "summaries"), [(0, 1, 0), (0, 49, 0), (0, 50, 1), (60, 20, 1)])
def test_only_an_epoch_whose_images_were_all_seen_is_done(
    caplog: pytest.LogCaptureFixture, start_image: int, steps: int, summaries: int
) -> None:
    clock = Clock()
    bar = EpochBar(13, 400, 100, start_image=start_image, terminal=False, clock=clock)
    with caplog.at_level(logging.INFO, LOGGER), bar:
        run(bar, clock, steps, 0.0, 0.01)
    assert sum("done" in record.getMessage() for record in caplog.records) == summaries


def test_without_a_terminal_nothing_is_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    with EpochBar(1, 1, 4, clock=Clock()) as bar:
        bar.update(images=4, data_seconds=0.0, step_seconds=1.0)
    assert "\r" not in "".join(capfd.readouterr())


def test_in_a_terminal_one_bar_shows_losses_and_both_estimates(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    clock = Clock()
    with EpochBar(3, 4, 4, terminal=True, clock=clock) as bar:
        run(bar, clock, 2, 0.0, 1.0)
        bar.show({"G_GAN": 0.5})
    last = capfd.readouterr().err.strip().split("\r")[-1]
    assert "epoch 3/4" in last and "4/4" in last and "G_GAN 0.5" in last
    assert "epoch 0s" in last and "training 2s" in last


@pytest.mark.parametrize(("data_seconds", "hints"), [(0.1, 0), (0.3, 1)])
def test_waiting_for_data_names_the_flag_once(
    caplog: pytest.LogCaptureFixture, data_seconds: float, hints: int
) -> None:
    clock = Clock()
    with caplog.at_level(logging.WARNING, LOGGER), EpochBar(1, 1, 100, terminal=False, clock=clock) as bar:
        run(bar, clock, 50, data_seconds, 0.7)
    assert [("--num_threads" in record.getMessage()) for record in caplog.records] == [True] * hints


def test_an_error_in_the_epoch_passes_without_a_summary(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    bar = EpochBar(1, 1, 100, terminal=False, clock=clock)
    with caplog.at_level(logging.INFO, LOGGER), pytest.raises(RuntimeError, match="mine"), bar:
        run(bar, clock, 20, 1.0, 0.1)
        raise RuntimeError("mine")
    assert caplog.records == []
