"""A film of a training: one system, run by the policy as it was after each so many epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from nbcore.atomic import replacing
from nbcore.errors import InputError, entry
from nbcore.learning.trainer import KEPT_FOLDER
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.checkpoints import load_policy
from nbcore.views import plots
from nbcore.views.encoder import checked_target, encoder
from nbcore.views.style import COLOURS, GREY, LOOKS, style

__all__ = ["training"]

INCHES = 5.0  # height of a frame, as text sees it


def training(
    run: str | Path,
    state: State,
    t_end: float,
    path: str | Path,
    *,
    tolerance: float = 1e-5,
    frames_per_second: int = 10,
    width: int = 1200,
    height: int = 600,
    look: str = "light",
    progress: bool = False,
) -> Path:
    """Write an mp4 or a GIF with a frame for each policy that a training kept.

    Each frame shows the orbits that the policy makes and where its steps fall, its steps and its
    energy error along time, and behind them those of all policies before it.

    Parameters
    ----------
    run
        Folder of a training that was made with `train.keep_every`.
    state
        One system.
    t_end
        How long it is run [T].
    path
        Target, ending in .mp4 or .gif; its folder must exist.
    tolerance
        That each policy is asked for.
    frames_per_second
        Of the film: policies a second.
    width, height
        Pixels of a frame.
    look
        "light" or "dark".
    progress
        Whether to show a bar.

    Raises
    ------
    InputError
        The training kept no policies, there is more than one system, or a target that can't be
        written.

    Examples
    --------
    >>> config = nb.load_config("quickstart", {"train.keep_every": 2})
    >>> nb.train(config, "my_training")
    >>> nb.movies.training("my_training", nb.scenarios.make("figure_eight"), 6.3, "learns.mp4")
    """
    folder = Path(run) / KEPT_FOLDER
    kept = sorted(folder.glob("*.safetensors"))
    if not kept:
        raise InputError(
            f"{str(folder)!r} holds no policies; train with train.keep_every=1 or more"
        )
    if state.n_systems != 1:
        raise InputError(f"there are {state.n_systems} systems; a film of a training shows one")
    entry("look", look, LOOKS)
    target = checked_target(path)
    figure = Figure(figsize=(INCHES * width / height, INCHES), dpi=height / INCHES)
    figure.set_layout_engine("constrained")
    canvas = FigureCanvasAgg(figure)
    made: list[Trajectory] = []
    with style(look), replacing(target) as unfinished:
        paper = rcParams["figure.facecolor"]
        figure.set_facecolor(paper)
        size = canvas.get_width_height(physical=True)
        with encoder(unfinished, size, frames_per_second, "libx264", paper) as pipe:
            for each in tqdm(kept, desc=target.name, unit="frame", disable=not progress):
                policy = load_policy(each)
                made.append(simulate(state, t_end, policy, tolerance=tolerance).system(0))
                figure.clear()
                _draw(figure, made, int(each.stem))
                canvas.draw()
                pipe.write(canvas.buffer_rgba())
    return target


def _draw(figure: Figure, made: list[Trajectory], epochs: int) -> None:
    """The last run in colour, those before it in grey."""
    last = made[-1]
    axes = figure.subplot_mosaic([["orbits", "dt"], ["orbits", "energy_error"]])
    plots.orbits(last, axes["orbits"])
    for body in range(last.position.shape[1]):
        x, y = last.position[:, body, :2].T
        axes["orbits"].plot(x, y, ".", color=COLOURS[body % len(COLOURS)], ms=3)
    for name in ("dt", "energy_error"):
        ax = axes[name]
        plots.along_time([last], ax, name)
        for before in made[:-1]:
            values = getattr(before, name)
            shown = values > 0
            ax.plot(before.time[shown], values[shown], color=GREY, lw=0.6, alpha=0.25, zorder=1)
        ax.set_ylim(*_limits([getattr(run, name) for run in made], last, name))
    cost = f"{last.n_force_evaluations} force evaluations, error {last.max_energy_error:.1e}"
    figure.suptitle(f"after {epochs} epochs: {cost}", fontsize=10)


def _limits(values: list[Any], last: Trajectory, name: str) -> tuple[float, float]:
    """Of all runs so far, so that the axis moves only where one goes beyond."""
    positive = np.concatenate([each[each > 0] for each in values])
    asked = last.tolerance if name == "energy_error" else None
    ends = np.append(positive, [] if asked is None else asked)
    return float(ends.min()) / 2, float(ends.max()) * 2
