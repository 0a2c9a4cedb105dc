"""The checkout as the package cclgan_pytorch: installed, and beside packages of the same names as its folders."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts._package import rewrite

ROOT = Path(__file__).resolve().parents[1]
OURS = {"data", "models", "options", "scripts", "util", "train", "test"}
FOLDERS = ("data", "models", "options", "scripts", "util")
OF_OTHER_CHECKOUTS = {"guest.py", "worker.py"}  # scripts/_benchmark imports the original repositories' modules


def test_every_import_of_the_checkout_becomes_one_of_the_package() -> None:
    files = [ROOT / "train.py", ROOT / "test.py", *(file for name in FOLDERS for file in (ROOT / name).rglob("*.py"))]
    for file in files:
        if file.name in OF_OTHER_CHECKOUTS:
            continue
        for node in ast.walk(ast.parse(rewrite(file.read_text(encoding="utf-8")))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in OURS], (file, ast.dump(node))


@pytest.mark.parametrize(
    ("line", "rewritten"),
    [
        ("from models import MODELS", "from cclgan_pytorch.models import MODELS"),
        ("    from util.errors import (", "    from cclgan_pytorch.util.errors import ("),
        ("import data", "import cclgan_pytorch.data as data"),
        ("import test as test_program", "import cclgan_pytorch.test as test_program"),
        ('"cut": "models.cut_model:CUTModel"', '"cut": "cclgan_pytorch.models.cut_model:CUTModel"'),
        ("import testing", "import testing"),
        ("from datasets import load", "from datasets import load"),
        ("data = models.get()", "data = models.get()"),
    ],
)
def test_what_is_rewritten(line: str, rewritten: str) -> None:
    assert rewrite(f"x = 1\n{line}\n") == f"x = 1\n{rewritten}\n"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder that has packages of its own called as the checkout's."""
    for name in ("models", "util"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"OWNER = 'somebody else, {name}'\n", encoding="utf-8")
    return tmp_path


def run(code: str, folder: Path, *path: Path) -> str:
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_it_works_beside_packages_of_the_same_names(foreign: Path) -> None:
    """As torch.hub loads it: hubconf.py is run by its path."""
    code = (
        "import models, runpy, sys\n"
        f"package = runpy.run_path({str(ROOT / 'scripts' / '_package.py')!r})\n"
        "names = package['import_checkout']('models').MODELS\n"
        "import util\n"
        "print(names.get('cut').__module__, models.OWNER, util.OWNER, sep='; ')\n"
    )
    assert run(code, foreign) == "cclgan_pytorch.models.cut_model; somebody else, models; somebody else, util\n"


def test_what_pip_installs_can_be_imported_and_has_its_command(foreign: Path) -> None:
    library = foreign / "library"
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(foreign), "build_py", "--build-lib"]
    subprocess.run([*command, str(library)], cwd=ROOT, check=True, capture_output=True)
    assert (library / "cclgan_pytorch/models/pretrained/derain/latest_net_G.safetensors").is_file()
    assert (library / "cclgan_pytorch/util/pages/assets/result.js").is_file()
    assert not (library / "cclgan_pytorch/tests").exists()
    code = "import sys, cclgan_pytorch; sys.argv = ['derain', '--help']; cclgan_pytorch.derain()"
    assert "--input TEXT" in run(code, foreign, library)
    code = "import cclgan_pytorch.util.names as names; print(names.SHIPPED)"
    assert run(code, foreign, library).strip() == str(library / "cclgan_pytorch/models/pretrained/derain")
