import fcntl
import math
import os
import subprocess
import sys
import time

import psutil
import pytest
from wandb_log import attempts

from nbcore.config import Tracking, load_config
from nbcore.jsonfiles import append_line
from nbcore.runs.provenance import attempt
from nbcore.runs.records import Run
from nbcore.runs.tracking import main, mirrored
from nbcore.runs.wandb_files import mark_sent, n_rows, unsent

KEY = "0123456789abcdef0123456789abcdef01234567"
BOOKKEEPING = ("_step", "_runtime", "_timestamp")
COMMAND = [sys.executable, "-m", "nbcore.runs.tracking"]
OFFLINE = Tracking(wandb="offline")


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def run(tmp_path):
    run = Run.create("first", root=tmp_path)
    run.save_config(load_config(None, {"train.epochs": 7, "tracking.wandb": "offline"}))
    return run


def log(run, n_rows, n_keys=1):
    """Add rows with numbers of every sort."""
    for epoch in range(first := len(run.load_history()), first + n_rows):
        loss = (0.1 + 0.2, math.nan, math.inf, -math.inf, 5e-324)[epoch % 5]
        more = {f"of_system_{k}": math.sqrt(epoch + k) for k in range(n_keys)}
        append_line(run.history_file, {"epoch": epoch, "loss": loss, **more})


def mirrored_rows(run):
    """Rows in W&B without its own columns, over all attempts."""
    rows = [row for each in attempts(run.path) for row in each.rows]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    return [{k: v for k, v in row.items() if k not in BOOKKEEPING} for row in rows]


def comparable(rows):
    """Rows in which NaN equals NaN."""
    return [{k: "NaN" if v != v else v for k, v in row.items()} for row in rows]


def warnings_in(text):
    return [line for line in text.splitlines() if line.startswith("warning: W&B ")]


def test_the_mirror_holds_what_the_run_has_written(run, capfd, monkeypatch):
    monkeypatch.setenv("A_SECRET", "open-sesame")
    with mirrored(run, Tracking(wandb="offline", project="orbits", group="all")):
        log(run, 6)
        run.checkpoint_file.write_bytes(b"weights")
        run.movie_file.write_bytes(b"frames")
        run.save_metrics(best=math.inf, cost={"steps": 3})
    (kept,) = attempts(run.path)
    assert comparable(mirrored_rows(run)) == comparable(run.load_history())
    assert (kept.run.display_name, kept.run.project, kept.run.run_group) == (
        "first",
        "orbits",
        "all",
    )
    assert kept.config["train"]["epochs"] == 7
    assert kept.summary["best"] == math.inf
    assert kept.summary["cost"] == {"steps": 3}
    assert {(a.type, a.manifest.contents[0].path) for a in kept.artifacts} == {
        ("model", "policy.safetensors"),
        ("movie", "movie.mp4"),
    }
    assert kept.exit_code == 0
    captured = capfd.readouterr()
    assert captured.err.strip().endswith(f"wandb sync {run.path / 'wandb'}")
    assert not warnings_in(captured.err)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert not any(b"open-sesame" in path.read_bytes() for path in files)


@pytest.mark.long
def test_the_next_mirror_goes_on_where_one_was_killed(run):
    log(run, 300, n_keys=20)  # several blocks of the file
    command = [*COMMAND, str(run.path), "--follow", str(os.getpid())]
    with open(run.path / "log", "wb") as out:
        mirror = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out)
    while n_rows(run.path / "wandb") == 0:
        assert mirror.poll() is None, (run.path / "log").read_text()
        time.sleep(0.05)
    (writer,) = psutil.Process(mirror.pid).children()
    writer.suspend()  # which is W&B's own, and would live on for some seconds
    mirror.kill()
    mirror.communicate()
    with pytest.raises(BlockingIOError), open(run.path / "wandb" / ".writer", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    writer.resume()
    for _ in range(2):
        with mirrored(run, OFFLINE):
            log(run, 5, n_keys=20)
    assert comparable(mirrored_rows(run)) == comparable(run.load_history())
    kept = attempts(run.path)
    assert len({each.run.run_id for each in kept}) == 1
    assert [each.exit_code for each in kept] == [None, 0, 0]
    assert 0 < len(kept[0].rows) <= 300
    assert n_rows(run.path / "wandb") == 310


@pytest.mark.long
def test_without_a_connection_all_is_kept_and_one_line_says_so(run, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with mirrored(run, Tracking(wandb="auto", patience=20.0)):
        log(run, 3)
    (warning,) = warnings_in(capfd.readouterr().err)
    assert "connection refused" in warning
    assert warning.endswith(f"sync later with: wandb sync {run.path / 'wandb'}")
    assert len(mirrored_rows(run)) == 3
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(("wandb", "warned"), [("auto", 0), ("online", 1)], ids=["auto", "online"])
def test_who_is_not_logged_in_keeps_it_offline(run, wandb, warned, capfd):
    with mirrored(run, Tracking(wandb=wandb)):
        log(run, 2)
    assert len(warnings_in(capfd.readouterr().err)) == warned
    assert len(mirrored_rows(run)) == 2


def test_a_folder_that_w_and_b_can_not_write_to_costs_one_line(run, capfd):
    (run.path / "wandb").touch()
    with mirrored(run, OFFLINE):
        log(run, 2)
    (warning,) = warnings_in(capfd.readouterr().err)
    assert "File exists" in warning
    assert "the local record is complete" in warning


def test_a_mirror_that_can_not_be_started_costs_one_line(run, monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", str(run.path / "no-python"))
    with mirrored(run, OFFLINE):
        pass
    (warning,) = warnings_in(capfd.readouterr().err)
    assert "could not be started" in warning


def test_the_run_waits_no_longer_than_its_patience(run, capfd):
    with mirrored(run, Tracking(wandb="offline", patience=0.01)):
        pass
    (warning,) = warnings_in(capfd.readouterr().err)
    assert "took longer than tracking.patience = 0.01 s" in warning
    assert warning.endswith(f"-m nbcore.runs.tracking {run.path}")


def test_an_error_of_the_run_passes_and_its_exit_code_arrives(run, capfd):
    class StoppedError(Exception):
        exit_code = 130

    with (
        pytest.raises(StoppedError),
        attempt(run, "10_train", {}),
        mirrored(run, OFFLINE, progress=False),
    ):
        raise StoppedError
    assert [each.exit_code for each in attempts(run.path)] == [130]
    assert capfd.readouterr().err == ""


def test_without_w_and_b_it_is_not_imported_and_nothing_is_written(run):
    before = sorted(run.path.iterdir())
    code = (
        "import sys; from nbcore.config import Tracking; from nbcore.runs.records import Run\n"
        "from nbcore.runs.tracking import mirrored\n"
        f"with mirrored(Run.open({str(run.path)!r}), Tracking(wandb=None)): pass\n"
        "print('wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert sorted(run.path.iterdir()) == before


def test_a_run_whose_process_is_gone_is_mirrored_to_its_last_whole_row(run):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    log(run, 3)
    with open(run.history_file, "a") as file:
        file.write('{"epoch": 3, "lo')
    command = [*COMMAND, str(run.path), "--follow", str(gone.pid)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    assert len(mirrored_rows(run)) == 3
    assert [each.exit_code for each in attempts(run.path)] == [1]


def test_a_run_that_has_ended_is_mirrored_at_once_as_it_ended(run):
    log(run, 3)
    with attempt(run, "10_train", {}) as this:
        this.end("interrupted", 143)
    command = [*COMMAND, str(run.path), "tracking.project=later"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"wandb sync {run.path / 'wandb'}" in done.stderr
    (kept,) = attempts(run.path)
    assert (len(kept.rows), kept.exit_code, kept.run.project) == (3, 143, "later")


def test_the_mirror_ends_with_the_attempt_that_it_follows(run):
    with attempt(run, "10_train", {}) as this:
        pass
    command = [*COMMAND, str(run.path), "--follow", str(this.row["pid"])]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    assert [each.exit_code for each in attempts(run.path)] == [0]


def test_a_run_without_w_and_b_is_mirrored_only_if_that_is_asked_for(run, capsys):
    run.save_config(load_config(None, {"tracking.wandb": None}))
    assert main([str(run.path)]) == 2
    assert "add tracking.wandb=online" in capsys.readouterr().err


def test_what_w_and_b_got_otherwise_is_not_sent_again(tmp_path):
    files = [
        tmp_path / f"{kind}run-1-a{k}" / f"run-a{k}.wandb"
        for k, kind in enumerate(["offline-", "offline-", ""])
    ]
    for path in files:
        path.parent.mkdir()
        path.touch()
    assert unsent(tmp_path) == files[:2]
    mark_sent(tmp_path)
    assert unsent(tmp_path) == []
    assert n_rows(tmp_path) == 0
