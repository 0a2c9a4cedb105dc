"""Make README's pictures and figures again, from the shipped model.

  python scripts/update_readme.py

Draws rain on the photographs in datasets/photos/test, derains them with test.py, and writes
docs/images/before_after.jpg, docs/figures.json, and README.md between <!-- name --> and <!-- /name -->. The
table of results comes from the shipped model's card.json. tests/test_readme.py fails where text and figures differ.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

import numpy as np
from PIL import Image

import test as test_program
from data.rain.synthesis import generator_for, rain_on
from util.command_line import CommandLine
from util.errors import entry_point
from util.metrics.metric import METRICS, Scorer, choose_metrics
from util.metrics.protocols import PROTOCOLS
from util.names import PRETRAINED

README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "figures.json"
STRIP = ROOT / "docs" / "images" / "before_after.jpg"
PHOTOS = ROOT / "datasets" / "photos" / "test"
SHIPPED = PRETRAINED / "derain"
RAIN = {"life": "streaks", "friends": "medium", "aitzgorri": "heavy"}
"""Which preset of rain falls on which photograph."""
SEED = 3
RAIN_KINDS = {
    "lines": "sparse streaks",
    "heavy": "dense streaks, up to five directions",
    "engine": "mixed, without fog",
    "night": "night, colored dashes",
}
"""The kinds of rain in the card, in words."""
CELL = (480, 320)  # width and height of a picture of the strip
GAP = 6
QUALITY = 88
PROTOCOL = PROTOCOLS["y"]


def hash_of_weights() -> str:
    """SHA-256 of the shipped model's weights."""
    (file,) = SHIPPED.glob("*.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def draw_strip() -> list[dict[str, Any]]:
    """Write the strip; returns the metrics of its pictures, before and after."""
    score = Scorer(choose_metrics(None, PROTOCOL, has_target=True), PROTOCOL)
    pairs, figures = [], []
    with tempfile.TemporaryDirectory() as folder:
        rainy_folder, output_folder = Path(folder, "rainy"), Path(folder, "derained")
        rainy_folder.mkdir()
        clean = {name: _photo(PHOTOS / f"{name}.jpg") for name in RAIN}
        for name, preset in RAIN.items():
            rainy = rain_on(clean[name], generator_for(SEED, name, 0), preset, fog=False).pixels
            Image.fromarray(rainy).save(rainy_folder / f"{name}.png")
        test_program.main(["--input", str(rainy_folder), "--output", str(output_folder)])
        for name in RAIN:
            rainy, derained = (_photo(each / f"{name}.png") for each in (rainy_folder, output_folder))
            pairs.append((rainy, derained))
            figures.append({"before": score(rainy, clean[name]), "after": score(derained, clean[name])})
    width, height = CELL
    sheet = Image.new("RGB", (len(pairs) * (width + GAP) - GAP, 2 * height + GAP), "white")
    for column, pair in enumerate(pairs):
        for row, pixels in enumerate(pair):
            sheet.paste(Image.fromarray(pixels), (column * (width + GAP), row * (height + GAP)))
    sheet.save(STRIP, quality=QUALITY, optimize=True)
    return figures


def _photo(path: Path) -> np.ndarray:
    """The middle of a photograph, [H, W, 3] uint8 of the strip's cell."""
    width, height = CELL
    with Image.open(path) as image:
        scale = max(width / image.width, height / image.height)
        size = (round(image.width * scale), round(image.height * scale))
        resized = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return np.asarray(resized.crop((left, top, left + width, top + height)))


SHOWN = ("psnr", "ssim", "psnr_rgb", "ciede2000")


def blocks(figures: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, str]:
    """README's generated parts by name."""
    return {
        "caption": _caption(figures["strip"]),
        "results": _results(card["test"]),
    }


def _values(figures: Sequence[Mapping[str, Any]], when: str, key: str) -> str:
    return ", ".join(METRICS[key].text(each[when][key]) for each in figures)


def _caption(strip: Sequence[Mapping[str, Any]]) -> str:
    heading = METRICS["psnr"].heading(PROTOCOL)
    return (
        f"*Above: rain drawn by `data/rain`, {heading} {_values(strip, 'before', 'psnr')} dB. Below: derained, "
        f"{_values(strip, 'after', 'psnr')} dB. The model has seen these scenes in training, but not this rain. "
        "Photographs: Aitzol Berasategi, CC BY 4.0 ([ATTRIBUTION.md](datasets/photos/ATTRIBUTION.md)); rain added and "
        "removed.*"
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _results(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    headings = [METRICS[key].heading(PROTOCOL) for key in SHOWN]
    rows = [_row(["held-out pictures", "", *headings]), _row(["---", "---:", *["---:"] * len(headings)])]
    for kind, result in kinds.items():
        if kind not in RAIN_KINDS:
            continue
        changes = [
            f"{METRICS[key].text(result[f'input_{key}'])} → **{METRICS[key].text(result[key])}**" for key in SHOWN
        ]
        rows.append(_row([RAIN_KINDS[kind], str(result["images"]), *changes]))
    clean = kinds["clean"]
    rows += [
        "",
        f"The {clean['images']} clean pictures against themselves: {METRICS['psnr'].labeled(clean['psnr'], PROTOCOL)} "
        "dB. Training used neither these scenes nor the renderers of this rain. All of it is synthetic.",
    ]
    return "\n".join(rows)


def filled(text: str, parts: Mapping[str, str]) -> str:
    """README's ``text`` with its generated parts replaced."""
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, lambda found: f"{found[1]}{part}\n{found[2]}", text, flags=re.DOTALL)  # noqa: B023
        assert count == 1, f"README.md has {count} parts called {name}"
    return text


def read_card() -> dict[str, Any]:
    """The shipped model's card.json."""
    return dict(json.loads((SHIPPED / "card.json").read_text(encoding="utf-8")))


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Make them again."""
    parser = CommandLine(description=__doc__)
    parser.parse_args(argv)
    figures = {"weights": hash_of_weights(), "strip": draw_strip()}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    README.write_text(filled(text, blocks(figures, read_card())), encoding="utf-8")
    print(f"written: {README.name}, {FIGURES.relative_to(ROOT)}, {STRIP.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
