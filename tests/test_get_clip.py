"""scripts/get_clip.py with a small random CLIP on the disk; nothing is downloaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from models.networks import semantic
from models.networks.semantic import create_semantic_encoder
from scripts import get_clip

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1},
}
QUICK = {**TINY, "quick_gelu": True}


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Weights of a small random CLIP, known to open_clip as 'tiny' and 'tiny-quickgelu'."""
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", TINY)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-quickgelu", QUICK)
    torch.manual_seed(0)
    path = tmp_path / "tiny.pt"
    torch.save(open_clip.create_model("tiny", pretrained=None).state_dict(), path)
    return path


@pytest.fixture
def tag(weights: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Those weights as the tag 'small', trained with QuickGELU and downloaded already; its settings, to change."""
    from open_clip import pretrained

    settings: dict[str, Any] = {"file": str(weights), "quick_gelu": True, "mean": None, "std": None}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"small": settings})
    return settings


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What was printed, by the word before the colon."""
    printed = (line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    return {name: text.strip() for name, text in printed}


def test_a_local_file_is_checked_and_described(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get_clip.main(["--clip_model", "tiny", "--clip_pretrained", str(weights)]) == 0
    told = lines(capsys)
    assert told["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert told["file"] == str(weights)
    assert told["checked"].startswith("embeds an image as 16 ")
    assert told["offline"] == f"--clip_model tiny --clip_pretrained {weights}"


def test_the_offline_flags_of_a_tag_give_the_tags_embedding(
    tag: dict[str, Any], weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file does not tell its activation, so the flags must."""
    assert get_clip.main(["--clip_model", "tiny", "--clip_pretrained", "small"]) == 0
    assert lines(capsys)["offline"] == f"--clip_model tiny-quickgelu --clip_pretrained {weights}"
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    by_tag, by_file, wrong = (
        create_semantic_encoder("clip", clip_model=model, clip_pretrained=pretrained)(image)
        for model, pretrained in (("tiny", "small"), ("tiny-quickgelu", str(weights)), ("tiny", str(weights)))
    )
    assert torch.equal(by_tag, by_file)
    assert not torch.allclose(by_tag, wrong)


def test_a_tag_that_needs_more_than_its_file_is_refused(
    tag: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Other means and standard deviations go with the tag, not with the file."""
    tag.update(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert get_clip.main(["--clip_model", "tiny", "--clip_pretrained", "small"]) == 2
    assert "use the tag" in capsys.readouterr().err


def test_out_gets_a_copy_that_loads(tag: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "copy.pt"
    assert get_clip.main(["--clip_model", "tiny", "--clip_pretrained", "small", "--out", str(target)]) == 0
    words = lines(capsys)["offline"].split()
    encoder = create_semantic_encoder("clip", clip_model=words[1], clip_pretrained=words[3])
    assert encoder(torch.zeros(1, 3, 32, 32)).shape == (1, 16)
    assert [path.name for path in target.parent.iterdir()] == ["copy.pt"]


def test_out_must_keep_the_ending(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--clip_model", "tiny", "--clip_pretrained", str(weights), "--out", str(tmp_path / "x.safetensors")]
    assert get_clip.main(flags) == 2
    assert "must end in .pt" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_weights_with_a_broken_number_are_refused(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load(weights, weights_only=True)
    state["visual.proj"][0, 0] = torch.nan
    torch.save(state, weights)
    assert get_clip.main(["--clip_model", "tiny", "--clip_pretrained", str(weights)]) == 2
    assert "finite" in capsys.readouterr().err


def test_without_network_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(semantic, "_is_cached", lambda repository: False)
    monkeypatch.setattr(semantic, "_hub_answers", lambda: False)
    assert get_clip.main([]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "hub does not answer" in error
