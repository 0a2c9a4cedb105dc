"""The layers of the code import only downwards, and ``opt`` stops at the door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each layer and the layers it may import.
ALLOWED = {
    "util": {"util"},
    "data": {"data", "util"},
    "models/networks": {"models.networks", "util"},
    "models/losses": {"models.losses", "util"},
    "models": {"models", "util"},
    "options": {"options", "models", "data", "util"},
}
OURS = ("util", "data", "models", "options", "scripts", "train", "test")


def _layer(file: Path) -> str:
    relative = file.relative_to(ROOT).as_posix()
    return max((layer for layer in ALLOWED if relative.startswith(f"{layer}/")), key=len)


def _imports(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return [name for name in names if name.split(".")[0] in OURS]


def _files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("file", _files("util", "data", "models", "options"), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_downwards(file: Path) -> None:
    allowed = ALLOWED[_layer(file)]
    for name in _imports(file):
        assert any(name == layer or name.startswith(f"{layer}.") for layer in allowed), f"{file.name} imports {name}"


@pytest.mark.parametrize(
    "file",
    [*_files("util", "models/networks", "models/losses"), *(f for f in _files("data") if f.name != "creation.py")],
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_opt_stops_at_the_door(file: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    arguments = {
        node.arg for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.arg)
    }
    assert "opt" not in names | arguments


METHOD_FILES = [f for f in _files("models") if f.name.endswith("_model.py") and f.name != "base_model.py"]


@pytest.mark.parametrize("file", METHOD_FILES, ids=lambda f: f.name)
def test_a_method_file_knows_no_machine(file: Path) -> None:
    """No device, precision, optimizer, distributed or file code beside the method."""
    forbidden = {"cuda", "to", "device", "autocast", "amp", "optim", "compile", "distributed", "save", "load", "Path",
                 "open", "argparse"}  # fmt: skip
    tree = ast.parse(file.read_text(encoding="utf-8"))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not forbidden & (attributes | names)


@pytest.mark.parametrize("file", METHOD_FILES, ids=lambda f: f.name)
def test_a_method_sees_opt_only_while_it_is_built(file: Path) -> None:
    builders = ("__init__", "_build")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        takes_opt = isinstance(node, ast.FunctionDef) and any(
            argument.arg == "opt" for argument in [*node.args.args, *node.args.kwonlyargs]
        )
        if takes_opt and isinstance(node, ast.FunctionDef):
            is_module_factory = node.name.endswith("_from")
            assert node.name.startswith(builders) or is_module_factory, f"{file.name}: {node.name} takes opt"
