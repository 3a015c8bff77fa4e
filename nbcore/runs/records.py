"""The folder of a run: one place for everything that it reads and writes."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcore.config import Config, load_config, save_config
from nbcore.errors import InputError
from nbcore.jsonfiles import read_json, read_lines, write_json
from nbcore.places import OUTPUTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nbcore.stepping.policies import LearnedPolicy, OwnStep
    from nbcore.stepping.suites import Suite

__all__ = ["OUTPUTS", "Run", "checked_name"]


class Run:
    """A folder that holds one run.

    `Run.create` makes a new one, `Run.open` finds one that exists.

    Attributes
    ----------
    path
        The folder, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(
        cls, name: str | None = None, *, label: str = "run", root: str | Path | None = None
    ) -> Run:
        """Make a new folder; one that exists is never touched.

        Parameters
        ----------
        name
            Name of the folder; without one, `label` and the time: train-20260131-235959.
        label
            What an automatic name begins with.
        root
            Where the folder is made; unless given, the folder that the environment variable
            NBCORE_OUTPUTS names, or outputs/ of a checkout, or of the working directory.

        Raises
        ------
        InputError
            The name is not a plain folder name, or is taken.
        """
        root = OUTPUTS if root is None else Path(root)
        stem = checked_name(f"{label}-{datetime.now():%Y%m%d-%H%M%S}" if name is None else name)
        root.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = root.resolve() / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                if name is not None:
                    raise InputError(
                        f"run {name!r} exists already in {str(root)!r}; choose another name"
                    ) from None
            else:
                return cls(path)
        raise AssertionError("unreachable: count() does not end")

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Find a run by its path, or by its name in outputs/.

        Raises
        ------
        InputError
            There is no such folder.
        """
        text = str(path).strip()
        for folder in (Path(text).expanduser(), OUTPUTS / text):
            if text and folder.is_dir():
                return cls(folder.resolve())
        there = sorted(p.name for p in OUTPUTS.glob("*/"))
        raise InputError(
            f"run {text!r} is neither a folder nor the name of a run in {str(OUTPUTS)!r}; "
            f"there: {', '.join(there[-8:]) or 'none'}"
        )

    @property
    def config_file(self) -> Path:
        """The configuration, as it was run."""
        return self.path / "config.toml"

    @property
    def metrics_file(self) -> Path:
        """Numbers that sum the run up."""
        return self.path / "metrics.json"

    @property
    def history_file(self) -> Path:
        """Metrics as the run goes, a row a line."""
        return self.path / "metrics.jsonl"

    @property
    def provenance_file(self) -> Path:
        """Where the run came from, and how it ended."""
        return self.path / "provenance.json"

    @property
    def trajectory_file(self) -> Path:
        """What was simulated."""
        return self.path / "trajectory.zarr"

    @property
    def checkpoint_file(self) -> Path:
        """The trained policy."""
        return self.path / "policy.safetensors"

    @property
    def training_file(self) -> Path:
        """Where training stands, to go on from."""
        return self.path / "training.safetensors"

    @property
    def movie_file(self) -> Path:
        """The movie."""
        return self.path / "movie.mp4"

    @property
    def figures(self) -> Path:
        """Folder of the figures, made on use."""
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        return folder

    def save_config(self, config: Config) -> None:
        """Write config.toml."""
        save_config(config, self.config_file)

    def load_config(self) -> Config:
        """Read config.toml back."""
        return load_config(self.config_file)

    def policy(self) -> LearnedPolicy | Suite | OwnStep | None:
        """Read the policy that was trained in this run, or None if none was."""
        from nbcore.stepping.checkpoints import load_policy

        return load_policy(self.checkpoint_file) if self.checkpoint_file.exists() else None

    def save_metrics(self, **metrics: Any) -> None:
        """Merge numbers, texts and nested tables into metrics.json, in one atomic replacement.

        NumPy scalars and arrays are accepted; numbers may be NaN or infinite.
        """
        write_json(self.metrics_file, {**self.load_metrics(), **metrics})

    def load_metrics(self) -> dict[str, Any]:
        """Read metrics.json; empty before anything is saved."""
        return read_json(self.metrics_file) if self.metrics_file.exists() else {}

    def load_history(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl: a row for each epoch or trial so far; empty before the first."""
        return read_lines(self.history_file)

    def save_figure(self, figure: Figure, name: str) -> Path:
        """Write figures/<name>.png."""
        path = self.figures / f"{checked_name(name)}.png"
        figure.savefig(path, dpi=150)
        return path


def checked_name(name: str) -> str:
    """Return a name that can be that of a folder or file.

    Raises
    ------
    InputError
        It can't.
    """
    if not re.fullmatch(r"\w[\w.+=-]{0,119}", name):
        raise InputError(
            f"name {name!r} must be one plain folder or file name: letters, digits and "
            "_ - . + =, at most 120, beginning with a letter, a digit or _"
        )
    return name
