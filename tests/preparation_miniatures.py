"""Miniature data sets in the published layouts, as ``{path: content}``, and the ways in which they are packed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

Files = dict[str, bytes]

SIDE = 16
SCENES = {
    "train": tuple(f"aachen_{number:06d}_000019" for number in range(6)),
    "test": tuple(f"lindau_{number:06d}_000019" for number in range(2)),
}
VERSIONS = tuple(
    f"alpha_{a}_beta_{b}_dropsize_{d}_pattern_{pattern}"
    for a, b, d in ((0.01, 0.005, 0.01), (0.02, 0.01, 0.005))
    for pattern in (1, 2, 10)
)


def picture(name: str, kind: str = "PNG", width: int = SIDE, bright: int = 0) -> bytes:
    """An image that is different for each name, with ``bright`` added."""
    rng = np.random.default_rng(crc32(name.encode()))
    blocks = rng.integers(0, 200, (2, 2, 3), dtype=np.uint8).repeat(SIDE // 2, 0).repeat(width // 2, 1)
    stream = io.BytesIO()
    Image.fromarray(blocks + np.uint8(bright)).save(stream, format=kind)
    return stream.getvalue()


def rainy(name: str) -> bytes:
    """The rainy version of ``picture(name)``."""
    return picture(name, bright=40)


def raincityscapes() -> Files:
    """DAF-Net's release: train, test, image, depth."""
    files: Files = {}
    for phase, scenes in SCENES.items():
        for scene in scenes:
            files[f"image/{scene}_leftImg8bit.png"] = picture(scene)
            files[f"depth/{scene}_depth_.png"] = picture(scene + "depth")
            for version in VERSIONS:
                files[f"{phase}/{scene}_rain_{version}.png"] = picture(scene + version, bright=40)
    return files


def raincityscapes_official() -> tuple[Files, Files]:
    """Cityscapes' own release: the rainy archive, and the clean one with scenes that have no rain."""
    rain: Files = {"license.txt": b"..."}
    clean: Files = {"leftImg8bit/train/zurich/zurich_000000_000019_leftImg8bit.png": picture("zurich")}
    for phase, folder in (("train", "train"), ("test", "val")):
        for scene in SCENES[phase]:
            place = f"{folder}/{scene.split('_')[0]}/{scene}_leftImg8bit"
            clean[f"leftImg8bit/{place}.png"] = picture(scene)
            for version in VERSIONS:
                rain[f"leftImg8bit_rain/{place}_rain_{version}.png"] = picture(scene + version, bright=40)
    return rain, clean


def rain100l_original(train: int = 6, test: int = 3) -> tuple[Files, Files]:
    """``RainTrainL`` and ``Rain100L`` with both kinds of file side by side."""
    training: Files = {}
    for number in range(1, train + 1):
        training[f"RainTrainL/norain-{number}.png"] = picture(f"l{number}")
        training[f"RainTrainL/rain-{number}.png"] = rainy(f"l{number}")
        training[f"RainTrainL/rainstreak-{number}.png"] = picture(f"s{number}")
    testing: Files = {}
    for number in range(1, test + 1):
        testing[f"Rain100L/norain-{number:03d}.png"] = picture(f"t{number}")
        testing[f"Rain100L/rainy/rain-{number:03d}.png"] = rainy(f"t{number}")
    return training, testing


def rain100_authors(kind: str = "Light", train: int = 6, test: int = 3) -> Files:
    """The layout of the authors' later archives, ``rain_data_train_Light`` and ``rain_data_test_Light``."""
    files: Files = {}
    for phase, letter, count in (("train", "l", train), ("test", "t", test)):
        for number in range(1, count + 1):
            folder = f"rain_data_{phase}_{kind}"
            files[f"{folder}/norain/norain-{number}.png"] = picture(f"{letter}{number}")
            files[f"{folder}/rain/X2/norain-{number}x2.png"] = rainy(f"{letter}{number}")
    return files


def rain1400(train: int = 4, test: int = 2, versions: int = 14) -> Files:
    """``rainy_image_dataset`` with JPEG files."""
    files: Files = {}
    for phase, numbers in (("training", range(1, train + 1)), ("testing", range(901, 901 + test))):
        for number in numbers:
            root = f"rainy_image_dataset/{phase}"
            files[f"{root}/ground_truth/{number}.jpg"] = picture(str(number), "JPEG")
            for version in range(1, versions + 1):
                files[f"{root}/rainy_image/{number}_{version}.jpg"] = picture(f"{number}_{version}", "JPEG")
    return files


def side_by_side(name: str) -> bytes:
    """Clean on the left, rainy on the right, losslessly."""
    halves = [np.asarray(Image.open(io.BytesIO(data))) for data in (picture(name), rainy(name))]
    stream = io.BytesIO()
    Image.fromarray(np.concatenate(halves, axis=1)).save(stream, format="PNG")
    return stream.getvalue()


def rain800(train: int = 4, test: int = 2) -> Files:
    """``rain/training`` and ``rain/test_syn`` (PNG here, so that halves can be compared), and ``test_nature``."""
    files: Files = {"rain/test_nature/1.jpg": picture("nature", "JPEG")}
    for folder, count in (("training", train), ("test_syn", test)):
        for number in range(1, count + 1):
            files[f"rain/{folder}/{number}.png"] = side_by_side(f"{folder}{number}")
    return files


def spa(videos: int = 4, frames: int = 3, test: int = 4) -> Files:
    """``real_world`` and its list, ``real_test_1000`` and its list; one clean crop for all frames of a video."""
    files: Files = {}
    lines = []
    for video in (f"{number:03d}" for number in range(videos)):
        files[f"real_world_gt/{video}/{video}_0_8.png"] = picture(video)
        for frame in range(1, frames + 1):
            name = f"real_world/{video}/{video}-{frame}/{video}-{frame}_0_8.png"
            files[name] = picture(name, bright=40)
            lines.append(f"./{name} ./real_world_gt/{video}/{video}_0_8.png")
    files["real_world.txt"] = "\n".join(lines).encode() + b"\n"
    listed = []
    for number in range(test):
        files[f"real_test_1000/rain/{number:03d}.png"] = rainy(f"test{number}")
        files[f"real_test_1000/gt/{number:03d}gt.png"] = picture(f"test{number}")
        listed.append(f"/real_test_1000/rain/{number:03d}.png /real_test_1000/gt/{number:03d}gt.png")
    files["real_test_1000.txt"] = "\n".join(listed).encode() + b"\n"
    return files


def as_folder(path: Path, files: Files) -> Path:
    """Unpacked."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(path: Path, files: Files) -> Path:
    """A zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def as_tar(path: Path, files: Files) -> Path:
    """A tar archive, gzipped if the name ends in gz; names start with ``./``, as tar likes them."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
