"""Lint, format, types, and that README tells the truth about its own commands."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nbcore.config import load_config, preset_names

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff_finds_nothing_to_mend(command):
    done = run(sys.executable, "-m", "ruff", *command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_the_type_checker_finds_nothing_to_mend():
    done = run(sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout


def test_the_top_level_holds_what_was_agreed_and_nothing_else():
    known = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}
    known |= {"CITATION.cff", "notebooks", "nbcore", "configs", "tests"}
    tracked = {name.split("/")[0] for name in run("git", "ls-files").stdout.splitlines()}
    assert {name for name in tracked if not name.startswith(".")} == known | {"outputs"}


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid(preset):
    load_config(preset)


def test_readme_names_only_presets_and_notebooks_that_exist():
    for name in re.findall(r"configs/(\w+)\.toml", README):
        assert name in preset_names()
    for name in re.findall(r"notebooks/(\w+)\.(?:py|ipynb)", README):
        assert (ROOT / "notebooks" / f"{name}.py").exists()


def test_every_dependency_is_pinned_in_the_constraints_that_readme_uses():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = (ROOT / "configs" / "constraints.txt").read_text()
    for requirement in asked:
        name = re.split(r"[<>=\[]", requirement)[0]
        assert f"\n{name}==" in pinned, name
    assert "-c configs/constraints.txt" in README


def test_importing_nbcore_does_not_import_torch():
    code = "import nbcore, sys; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", code).stdout.strip() == "False"


def test_every_public_name_can_be_used():
    import nbcore

    for name in nbcore.__all__:
        assert getattr(nbcore, name) is not None


def test_groups_of_tests_are_heeded(request):
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@test_project.py")
