"""Every command line of README, from an empty folder: checks as printed, runs at small size.

A line that no table here knows fails.
"""

import contextlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import nbcore as nb
from nbcore.config import load_config
from nbcore.runs import arrays, cli, cluster, notebooks, provenance, records
from nbcore.runs.records import Run

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`|<!-- \w+: (python [^>]+?) -->")
STARTS = (
    *("nbcore ", "python ", "python3 ", "pytest", "voila ", "optuna-dashboard ", "pip "),
    *(".venv/bin/", "--"),
)

# What is not run here, and where it is.
ELSEWHERE = {
    "python3 -m venv .venv": ".ci/run",
    "pip install -c configs/constraints.txt -e .": "tests/test_wheel.py",
    'pip install -c configs/constraints.txt -e ".[dev]"': ".ci/run",
    'pip install -c configs/constraints.txt -e ".[peers]"': ".ci/run, as part of dev",
    "pip install voila": ".ci/run, as part of dev",
    "pip install jupyterlab": ".ci/run, as part of dev",
    "pytest": ".ci/run",
    'pytest -m "not long"': ".ci/run runs all of them",
    "pytest -n 0 -s tests/test_faults.py tests/test_cluster.py tests/test_sweeps.py "
    "tests/test_tracking.py": ".ci/run runs all of them",
    "pytest -n 0 -s tests/test_long_runs.py -k add_up": ".ci/run runs all of them",
    "python -m nbcore.runs.readme outputs/RUN": "tests/test_readme.py",
    "python -m nbcore.runs.notebooks": "tests/test_notebooks.py",
    "python -m nbcore.analysis.planet_steps": "tests/test_planets_law.py",
    "python -m nbcore.analysis.kept_tolerances": "tests/test_budget.py",
    "nbcore train --config default_budget": "tests/test_budgets.py",
    "python -m nbcore.analysis.choices": "tests/test_choices.py",
    "python -m nbcore.analysis.choosing costs.jsonl": "tests/test_choices.py, but for the runs",
    "python -m nbcore.analysis.planet_encounters": "tests/test_planet_encounters.py",
    "python -m nbcore.analysis.planet_speed": "tests/test_planet_speed.py",
    "python -m nbcore.analysis.planet_speed --solar-system": "tests/test_planet_speed.py",
    "python -m nbcore.analysis.planet_speed --solar-system 1e7 --outer": (
        "tests/test_planet_speed.py"
    ),
    "python -m nbcore.runs.speed": "five minutes of nothing but timing",
    "python -c \"import time, nbcore as nb; nb.simulate('figure_eight', 6.3); "
    'print(time.process_time())"': "tests/test_structure.py, but for the timing",
    "voila --token=WORD notebooks/60_orbit_explorer.ipynb": "tests/test_browser.py",
    "python -m nbcore.analysis.advised 1": "tests/test_advice.py",
    "python -m nbcore.analysis.advised 1 1 50 two_body_e50 outer_planets kozai_triple moons": (
        "tests/test_advice.py"
    ),
    "python -m nbcore.analysis.forecasts": "tests/test_advice.py",
    "nbcore advise --set simulate.scenario.source=mine.csv": "tests/test_advice.py",
    "nbcore cache": "tests/test_compile_cache.py",
    "nbcore cache --clear": "tests/test_compile_cache.py",
    "nbcore cache --warm": "tests/test_loops_at_hand.py",
    "optuna-dashboard outputs/RUN/journal.log": "another package, which is not required",
    "--set": "the name of an option",
    "--resume": "the name of an option",
}
# What a part of a command line is tried with.
WHOLE = {
    "--set train.epochs=20 --set simulate.scenario.source=mine.csv": "nbcore both",
    "--resume RUN": "nbcore train",
    "--table members.csv": "nbcore submit train",
    "--dry-run": "nbcore submit train",
    "--set cluster.partition=gpu --set cluster.minutes=240": "nbcore submit train",
    "--set sweep.workers=8": "nbcore sweep",
    "--set tracking.wandb=none": "nbcore simulate",
    "nbcore cancel": "nbcore cancel RUN",
    "nbcore status": "nbcore status RUN",
}
ARRAY = (
    "nbcore submit simulate --over simulate.tolerance=1e-4,1e-6 "
    "--over simulate.scenario.parameters.seed=0:50"
)
# What makes the run that RUN stands for.
MAKERS = {
    "simulated": "nbcore simulate --config configs/simulate.toml",
    "trained": "nbcore train --config configs/train.toml",
    "swept": "nbcore sweep --config configs/sweep.toml",
    "array": ARRAY,
}
KINDS = {
    "nbcore status RUN": "array",
    "nbcore logs RUN": "array",
    "nbcore collect RUN": "array",
    "nbcore cancel RUN": "array",
    "nbcore submit --resume RUN": "array",
    "nbcore notebook 30_diagnose -p run=outputs/RUN": "simulated",
    "nbcore movie outputs/RUN --set movie.look=dark": "simulated",
    "nbcore rerun RUN": "simulated",
    "nbcore simulate --resume RUN": "simulated",
    "nbcore train --resume RUN": "trained",
    "nbcore train --config outputs/RUN/best.toml": "swept",
}
FAMILIES = 'train.families=[{source="few_body", t_end=1.0, parameters={n_systems=4}}]'
# Settings that make a command small beside SMALL; only what is named here is run.
RUNS = {
    "nbcore both --config configs/quickstart.toml": ["simulate.scenario.parameters.n_systems=2"],
    "nbcore both --set train.epochs=20 --set simulate.scenario.source=mine.csv": [],
    "nbcore benchmark --config configs/gains.toml": [],
    "nbcore benchmark --config configs/benchmark.toml": [],
    "nbcore benchmark --config configs/regularised.toml": [
        "benchmark.integrators=['blanes_moan4', 'gbs']"
    ],
    "nbcore benchmark --config configs/planets.toml": [
        "benchmark.families=['outer_planets']",
        "benchmark.integrators=['wisdom_holman']",
        "benchmark.peers=['whfast']",
    ],
    "nbcore train --config configs/default_policy.toml": [FAMILIES],
    "nbcore train --config configs/tune.toml": [FAMILIES],
    "nbcore train --config tune --set train.integrator=gbs --set train.epochs=40": [FAMILIES],
    "nbcore train --config outputs/RUN/best.toml": [],
    **{line: [] for line in MAKERS.values()},
    "nbcore simulate --set tracking.wandb=none": [],
    "nbcore runs": [],
    **{line: [] for line in KINDS if line != "nbcore train --config outputs/RUN/best.toml"},
}
# Nothing is run by these that another line does not run.
SENT = {
    "nbcore submit train --config configs/tune.toml",
    "nbcore submit train --config configs/tune.toml --over train.seed=0:100",
    'nbcore submit benchmark --over \'benchmark.families=[["two_body_e50"], ["planets_quiet"]]\'',
    "nbcore submit train --table members.csv",
    "nbcore submit train --dry-run",
    "nbcore submit train --set cluster.partition=gpu --set cluster.minutes=240",
    "nbcore sweep --set sweep.workers=8",
}
SMALL = [
    *("train.epochs=2", "train.pool_size=64", "train.batch_size=16", "train.batches=2"),
    *("train.steps_per_epoch=2", "train.replay_steps=1", "train.orbit_time=1"),
    *("train.evolution.pairs=1", "train.evolution.systems=2", "train.progress=false"),
    *("train.evolution.calibration_systems=2", "train.scenario.parameters.n_systems=8"),
    *("compare.criteria=['boekholt']", "compare.tuning_runs=1", "simulate.t_end=0.5"),
    *("movie.max_frames=3", "movie.width=200", "movie.height=120", "simulate.progress=false"),
    *("benchmark.families=['two_body_e50']", "benchmark.integrators=['blanes_moan4']"),
    *("benchmark.criteria=['boekholt']", "benchmark.systems=2", "benchmark.peer_systems=1"),
    *("benchmark.settings=2", "benchmark.repeats=1", "benchmark.engine_speed=[]"),
    *("benchmark.progress=false", "sweep.trials=1", "sweep.levels=[1e-2]", "sweep.asked=1e-3"),
    *("sweep.systems=2", "sweep.workers=1", "sweep.progress=false", "tracking.wandb=none"),
]


def found_in(text):
    """Command lines of a text, in its order, each once."""
    found = []
    for block in FENCED.findall(text):
        for line in block.splitlines():
            found += re.split(r"&&|;", line.partition("  #")[0])
    inline = [span or comment for span, comment in INLINE.findall(FENCED.sub("", text))]
    found += [span for span in inline if span.startswith(STARTS)]
    lines = (" ".join(line.split()).replace(".venv/bin/", "") for line in found)
    return list(dict.fromkeys(lines))


def whole(line):
    start = WHOLE.get(line, line)
    return f"{start} {line}" if line.startswith("--") and line in WHOLE else start


LINES = list(dict.fromkeys(whole(line) for line in found_in(README) if line not in ELSEWHERE))


def test_every_command_line_of_readme_is_known_here():
    assert set(LINES) == set(RUNS) | SENT
    assert set(ELSEWHERE) <= set(found_in(README))
    assert set(WHOLE) <= set(found_in(README))


def bringing(folder):
    """A folder with what a user would bring."""
    rows = [[1.0, 0.5, 0.0, 0.0, 0.6], [1.0, -0.5, 0.0, 0.0, -0.6], [0.1, 3.0, 0.0, 0.0, 0.8]]
    np.savetxt(folder / "mine.csv", rows, delimiter=",")
    (folder / "members.csv").write_text("train.seed,train.epochs\n1,2\n2,3\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory, and its outputs/."""
    folder = bringing(tmp_path_factory.mktemp("readme"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(records, "OUTPUTS", folder / "outputs")
        yield folder


def arguments(line, name):
    text = line.replace("RUN", name) if name else line
    assert text.startswith("nbcore ")
    return shlex.split(text)[1:]


@pytest.fixture(scope="module")
def runs(folder):
    """Runs of each kind, such as they are when they have ended, without having run anything."""
    state = nb.scenarios.make("kepler", eccentricity=0.3)
    trajectory = nb.simulate(state, 0.5, nb.FixedStep(0.1), engine="torch")
    presets = {"simulated": "simulate", "trained": "train", "swept": "sweep"}
    for kind, preset in presets.items():
        run = Run.create(kind)
        run.save_config(load_config(preset))
        run.save_metrics(loss=1.0)
        with provenance.attempt(run, cli.HEADLESS[preset][0], {}):
            pass
    trajectory.save(Run.open("simulated").trajectory_file)
    swept = Run.open("swept")
    swept.config_file.rename(swept.path / "best.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "send", unsent)
        arrays.submit("train", "10_train", "train", name="array")
    return {kind: kind for kind in MAKERS}


def unsent(jobs, *_):
    """Numbers of jobs that there are not."""
    return ["999999999"] * len(jobs)


class Executed(Exception):
    """A notebook would be run now."""


@pytest.mark.xdist_group("readme")
@pytest.mark.parametrize("line", [line for line in LINES if line in RUNS or line in SENT])
def test_a_command_line_passes_all_checks_as_it_is_printed(line, runs, monkeypatch):
    def execute(*_, **__):
        raise Executed

    monkeypatch.setattr(notebooks, "execute", execute)
    monkeypatch.setattr(cluster, "send", unsent)
    monkeypatch.setattr(cluster, "alive", lambda *_: set())
    result = CliRunner().invoke(cli.app, arguments(line, runs.get(KINDS.get(line))))
    reached = result.exit_code == 0 or isinstance(result.exception, Executed)
    assert reached, result.output


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Executes a line of README at small size, once, and what makes its RUN before it."""
    folder, done = bringing(tmp_path_factory.mktemp("small")), {}

    def here(jobs, *_):
        for job in jobs:
            with contextlib.suppress(SystemExit):
                job()
        return unsent(jobs)

    def executed(line):
        if line in done:
            return done[line]
        kind, name = KINDS.get(line), f"run-{LINES.index(line)}"
        given = arguments(line, executed(MAKERS[kind]) if kind else None)
        given = [text.replace("0:50", "0:1") for text in given]
        if given[0] in (*cli.HEADLESS, "submit") and "--resume" not in given:
            settings = [*SMALL, *RUNS[line]]
            given += [part for setting in settings for part in ("--set", setting)]
            given += ["--run", name]
        if given[0] not in ("submit", "status", "logs", "collect", "cancel", "runs"):
            given.append("-q")
        result = CliRunner().invoke(cli.app, given)
        assert result.exit_code == 0, result.output
        done[line] = name
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(records, "OUTPUTS", folder / "outputs")
        patch.setattr(cluster, "send", here)
        patch.setattr(cluster, "alive", lambda *_: set())
        yield executed


@pytest.mark.long
@pytest.mark.xdist_group("readme")
@pytest.mark.parametrize("line", [line for line in LINES if line in RUNS])
def test_a_command_line_runs_to_its_end(line, small):
    small(line)
