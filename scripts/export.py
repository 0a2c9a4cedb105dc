"""Write a trained derainer as one file for other programs, and check that it computes the same there.

  python scripts/export.py --checkpoint rcs                        # ONNX, for onnxruntime and others
  python scripts/export.py --checkpoint rcs --format torch_export  # .pt2, for PyTorch without this project
  python scripts/export.py --name rcs --epoch best_psnr --out derain.onnx --precision fp16

Images of any size and number go in and come out, float32 in [-1, 1]. docs/export.md shows how the files are used.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

import torch

from scripts._export import (
    FORMATS,
    PRECISIONS,
    SIZES,
    AnySize,
    Difference,
    check_packages,
    describe,
    differences,
    pictures,
    require_parity,
    table,
    the_network,
)
from scripts._trained import FLAGS_HELP, Trained, load_trained
from util.command_line import CommandLine, set_up_logging
from util.engine.inference import Translator
from util.errors import UserError, entry_point
from util.files import cannot_write, real_path
from util.kernels import restore
from util.text import did_you_mean

DEFAULT_FORMAT = "onnx"
MEGABYTE = 1e6


def choose_format(name: str | None, out: Path | None) -> str:
    """``--format``, or what the ending of ``--out`` says.

    Raises:
        UserError: the two contradict each other, or the ending says nothing.
    """
    if out is None:
        return name or DEFAULT_FORMAT
    endings = {suffix: kind for kind, each in FORMATS.items() for suffix in each.suffixes}
    found = endings.get(out.suffix.lower())
    if name is None and found is None:
        hint = did_you_mean(out.suffix, endings)
        raise UserError(f"--out {out}: its ending must be one of {', '.join(endings)}{hint}.")
    if name is not None and found != name:
        raise UserError(f"--out {out}: --format {name} has the ending {' or '.join(FORMATS[name].suffixes)}.")
    return found or DEFAULT_FORMAT


def export(trained: Trained, path: Path, name: str, precision: str, opset: int | None) -> list[Difference]:
    """Write the derainer to ``path`` in the format ``name`` if it computes there what test.py computes.

    Raises:
        UserError: it does not, or the file cannot be written. Nothing is left behind then, and an old file stays.
    """
    opt, kind = trained.opt, FORMATS[name]
    network = the_network(trained.model.nets)
    translate = Translator(trained.model, device=torch.device("cpu"), precision="fp32")
    batches = list(pictures(opt.input_nc, SIZES[precision]))
    expected = [translate(batch) for batch in batches]  # before fp16 changes the network in place
    restore([network])  # what is recorded are PyTorch's own operations
    metadata = describe(opt, trained.file, stride=trained.model.stride, precision=precision)
    module = AnySize(network, trained.model.stride, half=precision == "fp16").eval()
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind.write(module, opt.input_nc, temporary, metadata, opset)
        found = differences(kind.load(temporary), batches, expected)
        print(table(found))
        require_parity(found, precision)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return found


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, export, report."""
    parser = CommandLine(
        description=__doc__,
        epilog=FLAGS_HELP,
    )
    parser.add_argument("--format", choices=FORMATS, help="not set: by the ending of --out, or onnx")
    parser.add_argument("--out", type=Path, help="the file; not set: next to the network's, with the format's ending")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="fp16 halves the file (%(default)s)")
    parser.add_argument("--opset", type=int, help="ONNX's version of operators; not set: PyTorch's default")
    args, flags = parser.parse_known_args(argv)
    set_up_logging()
    name = choose_format(args.format, args.out)
    if args.opset is not None and name != "onnx":
        raise UserError(f"--opset goes with --format onnx, not {name}.")
    check_packages(name, FORMATS[name].packages)
    trained = load_trained(flags)
    path = args.out or trained.file.with_suffix(FORMATS[name].suffixes[0])
    if real_path(path) == real_path(trained.file):
        raise UserError(f"--out {path}: is the network's own file; choose another name.")
    export(trained, path, name, args.precision, args.opset)
    print(f"file: {path} ({path.stat().st_size / MEGABYTE:.1f} MB, {name}, {args.precision})")


if __name__ == "__main__":
    sys.exit(main())
