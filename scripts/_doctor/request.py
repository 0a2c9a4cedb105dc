"""What the doctor is asked to look at, and the options that train.py would have for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from util.errors import UserError

if TYPE_CHECKING:
    from options import Options


@dataclass(frozen=True)
class Request:
    """The command line: a dataset, a run, or neither."""

    dataroot: str | None
    name: str | None
    checkpoints_dir: str

    @property
    def arguments(self) -> list[str]:
        """train.py's, for a new training; of no dataset if none is named."""
        return ["--dataroot", self.dataroot or ".", "--checkpoints_dir", self.checkpoints_dir]

    def options_of_run(self) -> Options:
        """The options with which the run would go on.

        Raises:
            UserError: there is no such run, or its options are not valid.
        """
        from options import parse_train

        dataroot = [] if self.dataroot is None else ["--dataroot", self.dataroot]
        folder = ["--name", self.name or "", "--checkpoints_dir", self.checkpoints_dir]
        return parse_train([*dataroot, *folder, "--continue_train"])

    def options(self) -> Options:
        """The run's options if there is a run with valid ones, else the defaults."""
        from options import parse_train

        if self.name is not None and (Path(self.checkpoints_dir) / self.name).is_dir():
            try:
                return self.options_of_run()
            except UserError:  # which the check of the run says
                pass
        return parse_train(self.arguments)

    def dataset(self) -> Path | None:
        """The folder that was named, or else the run's; None if there is neither."""
        if self.dataroot is not None:
            return Path(self.dataroot).expanduser()
        try:
            return Path(self.options_of_run().dataroot).expanduser()
        except UserError:
            return None
