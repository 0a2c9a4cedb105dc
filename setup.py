"""``pip install .``: the checkout as the one package ``cclgan_pytorch``, with the commands derain and derain-train.

Everything else stands in pyproject.toml. Why it is done this way: docs/design.md, "Installed as a package".
"""

import shutil
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

PACKAGE = "cclgan_pytorch"
FOLDERS = ("data", "models", "options", "scripts", "util")


class BuildPackage(build_py):
    """Puts ``scripts/_package.py`` where Python looks for the package's beginning."""

    def run(self) -> None:
        super().run()
        shutil.copyfile(Path("scripts") / "_package.py", Path(self.build_lib) / PACKAGE / "__init__.py")


inside = find_namespace_packages(include=[pattern for name in FOLDERS for pattern in (name, f"{name}.*")])
setup(
    packages=[PACKAGE, *(f"{PACKAGE}.{name}" for name in inside if "__pycache__" not in name)],
    package_dir={PACKAGE: "."},
    package_data={"": ["*.css", "*.js", "*.json", "*.md", "*.pth", "*.safetensors", "*.txt", "*.yaml"]},
    cmdclass={"build_py": BuildPackage},
)
