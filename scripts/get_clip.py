"""Download CLIP's weights ahead of time, check them, and say how to use them on a machine without network.

  python scripts/get_clip.py                                        # into the model hub's cache
  python scripts/get_clip.py --out weights/clip_vit_b_32.safetensors   # and a file to carry to another machine

The check loads the weights as a training would and embeds a test image. Without network it says so within seconds.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from models.networks.semantic import create_semantic_encoder
from util.command_line import CommandLine
from util.errors import UserError, entry_point
from util.files import replace, temporary_beside

TEST_SIDE = 64  # pixels; any size will do, the encoder resizes
MEGABYTE = 1e6


def weights_file(model: str, pretrained: str) -> Path:
    """Where the weights lie: ``pretrained`` itself if it is a file, else what was downloaded for the tag."""
    if Path(pretrained).is_file():
        return Path(pretrained)
    import open_clip

    return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(model, pretrained)))


def name_for_file(model: str, pretrained: str) -> str:
    """The ``--clip_model`` that goes with the file: a tag tells the activation it was trained with, a file does not."""
    import open_clip

    quick = f"{model}-quickgelu"
    if Path(pretrained).is_file() or quick not in open_clip.list_models():
        return model
    return quick if open_clip.get_pretrained_cfg(model, pretrained).get("quick_gelu") else model


def copy_to(source: Path, target: Path) -> Path:
    """Copy the weights, whole or not at all; the target keeps the ending, by which open_clip knows the format.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    if target.suffix != source.suffix:
        raise UserError(f"--out {target}: must end in {source.suffix or 'nothing'}, as the weights do; rename it.")
    partial = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
        replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"--out {target}: cannot be written ({error.strerror}); choose another place.") from error
    return target


def embed(model: str, pretrained: str) -> Tensor:
    """[1, E]: a test image as a training with these flags would embed it.

    Raises:
        UserError: no weights, or an embedding that has not the model's width or not only finite numbers.
    """
    import open_clip

    encoder = create_semantic_encoder("clip", clip_model=model, clip_pretrained=pretrained)
    ramp = torch.linspace(-1, 1, TEST_SIDE)
    image = torch.stack([ramp.expand(TEST_SIDE, -1), ramp[:, None].expand(-1, TEST_SIDE), ramp.outer(ramp)])
    with torch.no_grad():
        embedding = encoder(image[None])
    width = int((open_clip.get_model_config(model) or {})["embed_dim"])
    if embedding.shape != (1, width) or not embedding.isfinite().all():
        raise UserError(
            f"--clip_pretrained {pretrained}: embeds an image as {tuple(embedding.shape)}, of which "
            f"{int(embedding.isfinite().sum())} numbers are finite, instead of (1, {width}); get the weights again."
        )
    return embedding


def sha256(path: Path) -> str:
    """Of a file that may not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, download, check, report."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("--clip_model", default="ViT-B-32", help="one of open_clip's models (%(default)s)")
    parser.add_argument("--clip_pretrained", default="openai", help="one of its tags, or a file (%(default)s)")
    parser.add_argument("--out", type=Path, help="copy the weights to this file")
    args = parser.parse_args(argv)
    embedding = embed(args.clip_model, args.clip_pretrained)
    path = weights_file(args.clip_model, args.clip_pretrained)
    name = name_for_file(args.clip_model, args.clip_pretrained)
    if not torch.equal(embed(name, str(path)), embedding):
        raise UserError(
            f"--clip_pretrained {args.clip_pretrained}: {path} loaded as {name} embeds an image differently, so it "
            f"cannot be used as a file; use the tag, which finds it in the hub's cache."
        )
    if args.out is not None:
        path = copy_to(path, args.out)
    print(f"file:    {path}")
    print(f"size:    {path.stat().st_size / MEGABYTE:.1f} MB")
    print(f"sha256:  {sha256(path)}")
    print(f"checked: embeds an image as {embedding.shape[1]} finite numbers")
    print(f"offline: --clip_model {name} --clip_pretrained {path}")


if __name__ == "__main__":
    sys.exit(main())
