"""The documentation says what is there: links lead somewhere, flags exist, defaults are the code's, commands parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
import yaml

from data import DATASETS
from models import MODELS
from options import Options, parse_test, parse_train
from options.flags import PROGRAMS, options_of
from options.schema import shown
from util.metrics.metric import DEFAULT_METRICS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "datasets/README.md")]
DOCUMENTS += sorted(ROOT.glob("docs/*.md"))
EXAMPLE = ROOT / "docs" / "examples" / "simgan_model.py"

FOREIGN_FLAGS = {"build-constraint", "version", "check", "logdir"}  # pip's, ruff's and tensorboard's
FOREIGN_FLAGS |= {"nproc_per_node", "nnodes", "node_rank", "master_addr", "master_port", "max-restarts"}  # torchrun's
FOREIGN_FLAGS |= {"shutdown-timeout"}
OF_THE_EXAMPLE = {"simgan"}
ABSENT, UNSET = "–", "not set"

PARSERS = {"train.py": parse_train, "test.py": parse_test}
COLUMNS = {
    "cclgan": (parse_train, ("--model", "cclgan")),
    "cut": (parse_train, ("--model", "cut")),
    "cycle_gan": (parse_train, ("--model", "cycle_gan")),
    "restoration": (parse_train, ("--model", "restoration")),
    "test.py": (parse_test, ()),
}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


class Cell(NamedTuple):
    """What a table says about a default."""

    document: str
    column: str
    flag: str
    text: str


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def _code_blocks(document: Path) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def _anchors(document: Path) -> set[str]:
    """The names that GitHub gives to headings: lower case, blanks to hyphens, punctuation dropped."""
    headings = re.findall(r"^#+ (.+)$", _without_code(document.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        text = _without_code(document.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
            if not re.match(r"[a-z]+:", link):
                yield document, link


def _table_cells() -> Iterator[Cell]:
    """Every default in a table whose first column is headed ``flag``."""
    for document in DOCUMENTS:
        header: list[str] = []
        for line in document.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
            if not cells or cells[0] == "flag":
                header = cells
            elif header and cells[0].startswith("`--"):
                for column, text in zip(header, cells, strict=True):
                    if column in COLUMNS:
                        yield Cell(document.name, column, cells[0].strip("`-"), text)


def _commands() -> Iterator[tuple[str, str]]:
    """(document, command) for every ``python train.py …`` and ``python test.py …`` in a code block or in the text.

    What torchrun starts counts as if python did.
    """
    for document in DOCUMENTS:
        inline = re.findall(r"`(python (?:train|test)\.py [^`]+)`", document.read_text(encoding="utf-8"))
        lines = [line for block in _code_blocks(document) for line in block.replace("\\\n", " ").splitlines()]
        lines = [re.sub(r"^torchrun .*?(?=train\.py )", "python ", line.strip()) for line in lines]
        for command in [*inline, *lines]:
            if re.match(r"python (train|test)\.py ", command):
                yield document.name, command


def _flags_of_programs() -> set[str]:
    declared = {option.name for program in PROGRAMS for option in program.options}
    for flag, registry in (("model", MODELS), ("dataset_mode", DATASETS)):
        declared |= {option.name for name in registry.names() for option in options_of(flag, name)}
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py"))
    return declared | {"help"} | set(re.findall(r'add_argument\(\s*"--(\w+)"', scripts))


@pytest.mark.parametrize(("document", "link"), list(_links()), ids=lambda value: getattr(value, "name", value))
def test_links_lead_somewhere(document: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (document.parent / unquote(path)) if path else document
    assert target.exists(), f"{document.name} links to {link}"
    assert not anchor or anchor in _anchors(target), f"{document.name}: {target.name} has no heading #{anchor}"


@each_document
def test_every_flag_exists(document: Path) -> None:
    mentioned = set(re.findall(r"(?<![\w-])--([A-Za-z][\w-]*)", document.read_text(encoding="utf-8")))
    assert mentioned - FOREIGN_FLAGS <= _flags_of_programs()


@pytest.mark.parametrize("cell", list(_table_cells()), ids=lambda cell: f"{cell.document}-{cell.column}-{cell.flag}")
def test_defaults_in_tables_are_those_of_the_code(cell: Cell, tmp_path: Path) -> None:
    parse, chosen = COLUMNS[cell.column]
    opt = parse([*chosen, "--dataroot", "somewhere", "--checkpoints_dir", str(tmp_path)])
    if cell.text == ABSENT:
        assert not hasattr(opt, cell.flag)
    else:
        assert _same(cell.text, getattr(opt, cell.flag)), f"the code has {getattr(opt, cell.flag)!r}"


def _same(text: str, value: Any) -> bool:
    if value is None:
        return text == UNSET
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(text) == value
    return text == shown(value)


def test_the_tables_are_found() -> None:
    """The test above would pass without any table."""
    flags = {(cell.document, cell.column) for cell in _table_cells()}
    assert {("options.md", column) for column in COLUMNS} | {("cclgan.md", "cclgan")} <= flags


def test_the_table_of_cclgan_has_all_of_its_options() -> None:
    documented = {cell.flag for cell in _table_cells() if cell.document == "cclgan.md"}
    assert {option.name for option in MODELS.get("cclgan").options} <= documented


@each_document
def test_every_model_named_exists(document: Path) -> None:
    named = set(re.findall(r"--model (\w+)", document.read_text(encoding="utf-8")))
    assert named <= {*MODELS.names(), *OF_THE_EXAMPLE}


@pytest.mark.parametrize(("document", "command"), list(_commands()))
def test_commands_parse(document: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder where the run that the command names, and the YAML file that it reads, exist."""
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command, comments=True)[1:]
    options_file = tmp_path / "my.yaml"
    options_file.write_text("ngf: 32\n", encoding="utf-8")
    arguments = [str(options_file) if word.endswith(".yaml") else word for word in arguments]
    for flag in {"--name", "--checkpoint"}.intersection(arguments):
        run = tmp_path / arguments[arguments.index(flag) + 1]
        run.mkdir()
        saved = yaml.safe_dump({"dataroot": "./datasets/rain", **_saved_model(arguments)})
        (run / "options.yaml").write_text(saved, encoding="utf-8")
    opt = _parse(program, [*arguments, "--checkpoints_dir", str(tmp_path)])
    if opt is not None:
        assert opt.dataroot or opt.input
        assert not opt.plugin or Path(opt.plugin[0]).is_file()


def _saved_model(arguments: list[str]) -> dict[str, str]:
    return {"model": arguments[arguments.index("--model") + 1]} if "--model" in arguments else {}


def _parse(program: str, arguments: list[str]) -> Options | None:
    try:
        return PARSERS[program](arguments)
    except SystemExit as end:
        assert end.code == 0 and "--help" in arguments
        return None


def test_commands_are_found() -> None:
    """The test above would pass without any command."""
    documents = {document for document, _ in _commands()}
    assert {"README.md", "CONTRIBUTING.md", "cclgan.md", "training.md", "distributed.md"} <= documents


def test_excerpts_of_the_example_are_verbatim() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    excerpts = re.findall(r"<!-- from docs/examples/simgan_model\.py -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(excerpts) == text.count("<!-- from ") > 0
    source = EXAMPLE.read_text(encoding="utf-8")
    assert all(excerpt in source for excerpt in excerpts)


@pytest.mark.parametrize("name", [f"{prefix}{metric.key}" for prefix in ("", "input_") for metric in DEFAULT_METRICS])
def test_every_metric_is_explained(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


@each_document
def test_no_place_of_one_machine_is_named(document: Path) -> None:
    assert not re.search(r"/(home|Users|work|root)/|[A-Z]:\\\\", document.read_text(encoding="utf-8"))


@each_document
def test_files_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:data|docs|models|options|scripts|tests|util)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
