"""What running headless costs: `python -m nbcore.runs.speed`, five minutes on two cores.

The overhead of a run, how busy 64 small simulations keep the cores, and how long it takes to submit
and to collect a thousand members. With a SLURM at hand the thousand are submitted there, and
cancelled at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from nbcore.config import load_config
from nbcore.runs import arrays, cluster, notebooks, provenance, reports
from nbcore.runs.members import grid
from nbcore.runs.records import Run
from nbcore.surroundings import machine

__all__ = ["busy_cores", "collecting", "main", "overhead", "submitting"]

SMALL = ["simulate.policy=boekholt", "simulate.progress=false"]


def overhead(folder: Path, repeats: int = 5) -> float:
    """Seconds that a headless run takes beyond the same notebook as a plain script.

    Medians of runs by turns. The script has no kernel, no papermill, no provenance.
    """
    code = (notebooks.NOTEBOOKS / "20_simulate.py").read_text(encoding="utf-8")
    code = code.replace('preset = "simulate"', 'preset = "smoke"')
    code = code.replace("overrides = []", f"overrides = {SMALL}")
    environment = {**os.environ, "MPLBACKEND": "agg"}

    def seconds(command: list[str]) -> float:
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - begun

    scripts, runs = [], []
    for k in range(repeats):
        run = Run.create(f"script-{k}", root=folder)
        plain = code.replace("run_dir = None", f"run_dir = {str(run.path)!r}")
        scripts.append(seconds([sys.executable, "-c", plain]))
        new = Run.create(f"headless-{k}", root=folder)
        headless = (
            "from nbcore.runs.commands import run_notebook\n"
            f"run_notebook('20_simulate', {{'preset': 'smoke', 'overrides': {SMALL}, "
            f"'run_dir': {str(new.path)!r}}}, None, quiet=True)"
        )
        runs.append(seconds([sys.executable, "-c", headless]))
    return median(runs) - median(scripts)


def busy_cores(folder: Path, members: int = 64) -> tuple[float, float]:
    """Share of all cores that simulations submitted to this machine keep busy, and the seconds."""
    over = [f"simulate.scenario.parameters.seed=1:{members + 1}"]
    idle, begun = psutil.cpu_times(), time.perf_counter()
    array = arrays.submit(
        "simulate",
        "20_simulate",
        "smoke",
        [*SMALL, "cluster.executor=local"],
        grid(over),
        name="busy",
        root=folder,
    )
    while any(state in ("waiting", "running") for state in arrays.states(array)):
        time.sleep(0.5)
    spent = [after - before for before, after in zip(idle, psutil.cpu_times(), strict=True)]
    names = psutil.cpu_times()._fields
    total = sum(each for name, each in zip(names, spent, strict=True) if "guest" not in name)
    unused = sum(spent[names.index(name)] for name in ("idle", "iowait") if name in names)
    if set(arrays.states(array)) != {"done"}:
        raise RuntimeError(reports.standing(array))
    return 1 - unused / total, time.perf_counter() - begun


def submitting(folder: Path, members: int = 1000) -> float | None:
    """Seconds to submit an array to SLURM; None without one."""
    if cluster.executor_of(load_config().cluster) != "slurm":
        return None
    seeds = grid([f"train.seed=0:{members}"])
    begun = time.perf_counter()
    array = arrays.submit("train", "10_train", "smoke", [], seeds, name="many", root=folder)
    seconds = time.perf_counter() - begun
    arrays.stop(array)
    return seconds


def collecting(folder: Path, members: int = 1000) -> float:
    """Seconds to collect finished members, which are made and not run."""
    again, arrays.again = arrays.again, lambda array: 0
    try:
        seeds = grid([f"train.seed=0:{members}"])
        settings = ["cluster.executor=local"]
        array = arrays.submit(
            "train", "10_train", "smoke", settings, seeds, name="done", root=folder
        )
    finally:
        arrays.again = again
    for number in range(members):
        run = array.member(number)
        run.path.mkdir(parents=True)
        with provenance.attempt(run, "10_train", array.parameters(number)):
            run.save_metrics(loss=0.5, epochs=10, nested={"median": 1.0, "p90": 2.0})
    begun = time.perf_counter()
    reports.collected(array)
    return time.perf_counter() - begun


def main() -> None:
    """Print a line for each, and one of the machine."""
    here = machine()
    print(f"on {here['processor']} ({here['cores']} cores)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"overhead of a run: {overhead(folder):.2f} s")
        busy, seconds = busy_cores(folder)
        print(f"64 simulations at once: cores {busy:.0%} busy, {seconds:.0f} s")
        spent = submitting(folder)
        print("1000 members submitted:", "no SLURM here" if spent is None else f"{spent:.1f} s")
        print(f"1000 members collected: {collecting(folder):.1f} s")


if __name__ == "__main__":
    main()
