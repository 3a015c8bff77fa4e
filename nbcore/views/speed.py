"""How fast pictures are: `python -m nbcore.views.speed`, a minute and a half.

The time from a moved slider to new data for the browser, the frames a second of movies, and what a
long one takes in memory.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbcore.config import ScenarioConfig, Simulation
from nbcore.physics import scenarios
from nbcore.simulation.simulate import simulate
from nbcore.stepping.policies import FixedStep
from nbcore.views.explorer import run_one
from nbcore.views.movies import movie
from nbcore.views.orbit_view import OrbitView
from nbcore.views.plots import PANELS

PERIOD = 6.32591398  # of the figure-eight
FRAMES = 300


def _best(work: Callable[[], object], repeats: int = 5) -> float:
    work()  # compiles
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def seconds_to_a_new_orbit() -> float:
    """Of the kernel: a run of 3 bodies over 50 periods at tolerance 1e-6, packed for the view."""
    settings = Simulation(
        scenario=ScenarioConfig(source="figure_eight"),
        policy="default",
        tolerance=1e-6,
        t_end=50 * PERIOD,
    )
    view = OrbitView()
    return _best(lambda: view.show([run_one(settings)]))


def frames_per_second(panels: Sequence[str], max_frames: int = FRAMES) -> float:
    """Of a movie of 10 bodies with trails, 800 × 800 pixels."""
    state = scenarios.make("plummer", n_bodies=10, seed=1)
    run = simulate(
        state, 10.0, FixedStep(0.005), integrator="leapfrog", record=np.linspace(0, 10, 2000)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speed.mp4"
        size: dict[str, Any] = {"width": 800, "height": 800, "max_frames": max_frames}
        return max_frames / _best(lambda: movie(run, path, panels=panels, **size), repeats=2)


def megabytes(max_frames: int) -> float:
    """Most memory of this process after a movie as long, made from a run on disk."""
    state = scenarios.make("plummer", n_bodies=10, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder) / "run.zarr", Path(folder) / "long.mp4"
        simulate(state, 50.0, FixedStep(0.005), integrator="leapfrog", path=path)
        movie(path, target, panels=(), width=800, height=800, max_frames=max_frames)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # which Linux gives in KiB


if __name__ == "__main__":
    print(f"slider to new orbit, kernel: {1e3 * seconds_to_a_new_orbit():.0f} ms")
    print(f"movie, 10 trails, no panels: {frames_per_second(()):.0f} frames/s")
    print(f"movie, 10 trails, all panels: {frames_per_second(tuple(PANELS)):.0f} frames/s")
    for count in (1000, 10_000):
        print(f"movie, {count:,} frames from disk: {megabytes(count):.0f} MB")
