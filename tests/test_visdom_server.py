"""Starting Visdom's server without internet: the files of its page, and the page itself."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import io
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import _visdom, visdom_server
from scripts._visdom import PACKAGES, Package
from util.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0


def write_package(folder: Path, name: str, content: bytes) -> Package:
    """A package as npm makes them, with one file; returns its entry in the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for where in ("package/dist/file.js", "../escaped.js"):
            member = tarfile.TarInfo(where)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    integrity = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    return Package(name, "1.0.0", integrity, {"dist/file.js": f"js/{name}.js"})


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages in a folder, which stand for all that the page needs."""
    folder = tmp_path / "packages"
    table = (write_package(folder, "one", b"first"), write_package(folder, "two", b"second"))
    monkeypatch.setattr(_visdom, "PACKAGES", table)
    return folder


def test_the_table_has_every_file_that_visdom_itself_would_download() -> None:
    found = importlib.util.find_spec("visdom")
    assert found is not None and found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0]) / "server" / "build.py"
    wanted: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if node.targets[0].id == "ext_files" and isinstance(node.value, ast.Dict):
            for value in node.value.values:
                name = ast.literal_eval(value)
                kind = "js" if name.endswith((".js", ".js.map")) else "css" if name.endswith(".css") else "fonts"
                wanted.add(f"{kind}/{name}")
        if node.targets[0].id == "mathjax_path" and isinstance(node.value, ast.List):
            paths = [path.split("?")[0] for path in ast.literal_eval(node.value)]
            wanted.update(f"js/mathjax/2.7.5/{path}" for path in paths)
    assert len(wanted) > 20
    assert {place for package in PACKAGES for place in package.files.values()} == wanted


def test_files_come_out_of_the_packages_to_where_visdom_looks(packages: Path, tmp_path: Path) -> None:
    static = tmp_path / "static"
    assert _visdom.missing_files(static) == ["js/one.js", "js/two.js"]
    assert _visdom.get_files(static, packages, may_fetch=False) == 2
    assert (static / "js" / "one.js").read_bytes() == b"first"
    assert (static / "js" / "two.js").read_bytes() == b"second"
    assert (static / "version.built").read_text(encoding="utf-8") == "0.2.4"
    assert not list(tmp_path.rglob("escaped.js"))
    _visdom.require_files(static)


def test_missing_files_are_named_with_what_to_do(packages: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 files are missing \(js/one.js, js/two.js\); add --fetch_browser_files"):
        _visdom.require_files(tmp_path / "static")


def test_a_package_that_npm_does_not_vouch_for_is_refused_and_nothing_is_written(
    packages: Path, tmp_path: Path
) -> None:
    write_package(packages, "two", b"something else")
    with pytest.raises(UserError, match=r"two-1\.0\.0\.tgz: is not the package that npm vouches for"):
        _visdom.get_files(tmp_path / "static", packages, may_fetch=False)
    assert not (tmp_path / "static").exists()


def test_a_lacking_package_is_named(packages: Path, tmp_path: Path) -> None:
    (packages / "one-1.0.0.tgz").unlink()
    with pytest.raises(UserError, match=r"one-1\.0\.0\.tgz cannot be read .*--fetch_browser_files"):
        _visdom.get_files(tmp_path / "static", packages, may_fetch=False)


def test_only_what_lacks_is_fetched_by_exact_version(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (packages / "two-1.0.0.tgz").unlink()
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(_visdom.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(_visdom.subprocess, "run", run)
    _visdom.fetch(packages)
    assert len(commands) == 1
    assert commands[0][:2] == ["npm", "pack"] and "--ignore-scripts" in commands[0]
    assert [word for word in commands[0] if "@" in word] == ["two@1.0.0"]


def test_without_npm_the_way_around_is_told(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (packages / "two-1.0.0.tgz").unlink()
    monkeypatch.setattr(_visdom.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"npm is not installed .*--browser_packages FOLDER"):
        _visdom.fetch(packages)


def test_what_npm_complains_of_is_passed_on(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (packages / "two-1.0.0.tgz").unlink()
    complaint = "npm warn old\nnpm error code ENOTFOUND\nnpm error A complete log of this run is in /x\n"
    failed = subprocess.CompletedProcess([], 1, "", complaint)
    monkeypatch.setattr(_visdom.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(_visdom.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match=r"npm failed \(code ENOTFOUND\)"):
        _visdom.fetch(packages)


def test_a_port_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert visdom_server.main(["--port", "0"]) == 2
    assert "--port 0" in capsys.readouterr().err


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_a_port_in_use_is_one_sentence(
    packages: Path, tmp_path: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_visdom, "static_folder", lambda: tmp_path / "static")
    code = visdom_server.main(
        ["--port", str(taken_port), "--env_path", str(tmp_path / "env"), "--browser_packages", str(packages)]
    )
    told = capsys.readouterr()
    assert code == 2
    assert "2 files of the page" in told.out
    assert f"--port {taken_port}: in use already" in told.err


def test_the_page_opens_and_nothing_outside_of_it_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    call = f"serve({port}, 'localhost', Path({str(tmp_path)!r}), local=True, readonly=False, started=print)"
    code = f"from pathlib import Path; from scripts._visdom import serve; {call}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        deadline = time.monotonic() + START_SECONDS
        while str(port) not in (tmp_path / "log").read_text():
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            page = answer.read().decode()
        assert '<div id="app">' in page and "static/js/main.js?v=" in page and "user/style.css" in page
        with pytest.raises(urllib.error.HTTPError, match="403"):
            opener.open(f"http://127.0.0.1:{port}/static/../__init__.py", timeout=10)
    finally:
        server.kill()
        server.wait()
