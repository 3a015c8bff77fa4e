"""Work against precision over families of problems: one table, a row for each system of each run.

`frontiers` and `summary` judge what stands in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nbcore.analysis import peers as others
from nbcore.analysis.families import FAMILIES, get_family
from nbcore.analysis.methods import KINDS, Method, methods
from nbcore.analysis.timing import on_threads, stamp
from nbcore.analysis.work_precision import measured
from nbcore.config import Benchmark
from nbcore.errors import InputError, unknown_name
from nbcore.tables import read_table, write_table

__all__ = ["TABLE_FILE", "check_benchmark", "load_table", "run_benchmark"]

TABLE_FILE = "benchmark.csv"  # in a run folder


def run_benchmark(config: Benchmark, folder: str | Path | None = None) -> pd.DataFrame:
    """Run every method at every setting on the held-out systems of every family.

    The systems of a family are one batch on one thread, whose CPU time is shared out to them by
    their numbers of evaluations; peers run system by system. Set-up stands apart, for all alike.
    Runs are repeated by turns with all others of their family, so that a machine that becomes
    slower does so for all, and the quickest counts; those far from any contest run once. No method
    gets a stricter setting after one that most systems can't afford.

    Parameters
    ----------
    folder
        Where the table is written after every family, if anywhere.

    Returns
    -------
    DataFrame with the columns `family`, `n_bodies`, `method`, `kind` (classical, learned, fixed,
    adaptive, peer), `rule`, `integrator`, `stepping`, `setting`, `system`; `status`, `n_steps`,
    `n_force_evaluations` (NaN for a peer that does not work in these); `max_energy_error` over
    every step, of REBOUND's planetary integrators at 240 times, `final_energy_error`,
    `max_body_error` and `final_body_error` of any orbit (NaN for peers), `position_error` at the
    end (NaN where the true one is not known), all infinite where the end was not reached;
    `cpu_seconds`, `setup_seconds`. Its `attrs` hold `machine`, `config`, and under `left_out` what
    could not run, and why.

    Raises
    ------
    InputError
        A name in the configuration is unknown, or nothing is left to run.
    """
    names, ours, peers, left_out = check_benchmark(config)
    about = {"machine": stamp(), "config": config.model_dump(mode="json")}
    rows, table = [], pd.DataFrame()
    count = len(names) * (len(ours) + len(peers))
    with on_threads(1), tqdm(total=count, desc="benchmark", disable=not config.progress) as bar:
        for name in names:
            bar.set_postfix_str(name)
            new, unfit = measured(name, config, ours, peers, bar.update)
            rows += new
            left_out |= unfit
            table = pd.DataFrame(rows)
            table.attrs = {**about, "left_out": left_out}
            if folder is not None:
                write_table(table, Path(folder) / TABLE_FILE)
    return table


def check_benchmark(
    config: Benchmark,
) -> tuple[list[str], list[Method], list[str], dict[str, str]]:
    """Families, our methods, the peers that can run, and those that can't with the reason.

    Raises
    ------
    InputError
        A name in the configuration is unknown, or nothing is left to run.
    """
    names = list(FAMILIES if config.families is None else config.families)
    for name in names:
        get_family(name)
    ours, (peers, left_out) = methods(config), _installed(config)
    if not names or not ours:
        raise InputError(
            "the benchmark has nothing to run; name one in benchmark.families, and one in "
            "benchmark.integrators"
        )
    if config.judged is not None:
        ran = [method.name for method in ours]
        _check_names((config.judged,), ran)
        _check_names(config.baseline, [*ran, *KINDS, "peer"])
    return names, ours, peers, left_out


def load_table(folder: str | Path) -> pd.DataFrame:
    """Read the table of a benchmark from its folder.

    Raises
    ------
    InputError
        There is none.
    """
    path = Path(folder) / TABLE_FILE
    if not path.exists():
        raise InputError(f"{str(folder)!r} holds no {TABLE_FILE}; make it with `nbcore benchmark`")
    return read_table(path)


def _check_names(names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown_name("method", name, known)


def _installed(config: Benchmark) -> tuple[list[str], dict[str, str]]:
    """Peers that can run, and those that can't with the reason."""
    wanted = list(others.PEERS if config.peers is None else config.peers)
    for name in wanted:
        if name not in others.PEERS:
            raise unknown_name("peer", name, others.PEERS)
    missing = others.missing()
    left_out = {
        name: f"the package {missing[name]!r} is not installed"
        for name in wanted
        if name in missing
    }
    return [name for name in wanted if name not in missing], left_out
