import sys

import numpy as np
import pytest

from nbcore.analysis import planet_speed
from nbcore.analysis.planet_speed import batches, solar_system, steps
from nbcore.errors import InputError
from nbcore.physics import scenarios

CODES = {"ours", "whfast c17", "whfast512 c17"}


@pytest.fixture
def short(monkeypatch):
    """Runs of a few steps, which measure nothing."""
    for name, value in {"STEPS": 20, "SYSTEM_STEPS": 40, "FEWEST": 10}.items():
        monkeypatch.setattr(planet_speed, name, value)


@pytest.fixture
def without_512(monkeypatch):
    """WHFast512 refuses, as it does without AVX-512."""

    def refuse(*_):
        raise InputError("AVX512 is not supported by your CPU.")

    for name in ("whfast512", "whfast512 c17"):
        peer = type("Refusing", (), {"prepare": staticmethod(refuse)})
        monkeypatch.setitem(planet_speed.PLANETARY, name, peer)


def test_each_setting_is_compared_with_the_same_scheme_and_what_does_not_run_has_no_time(
    short, without_512
):
    table = steps((5,), repeats=1)
    assert table["setting"].tolist() == ["plain"] * 2 + ["corrected"] * 2 + ["lazy"]
    wide = table["peer"].str.contains("512")
    assert table.loc[wide, ["beside", "ratio"]].isna().all(axis=None)
    assert table.loc[~wide, ["ours", "beside", "ratio"]].notna().all(axis=None)
    assert table["target"].isna().tolist() == [False] * 4 + [True]


def test_every_batch_is_compared_with_its_systems_one_by_one(short):
    table = batches((5,), (4, 5), repeats=1)
    assert table[["n_bodies", "n_systems"]].values.tolist() == [[5, 4], [5, 5]]
    assert (table["target"] == 0.5).all()


@pytest.mark.parametrize(("years", "outer", "off"), [(8.0, False, 1e-11), (100.0, True, 1e-10)])
def test_all_codes_take_the_solar_system_the_same_way(years, outer, off):
    table = solar_system(years, outer=outer)
    found = table.pivot(index="years", columns="code", values="eccentricity")
    assert {"ours", "whfast c17"} <= set(found) <= CODES
    assert len(found) == planet_speed.EPOCHS
    assert found.index[-1] == years
    for code in found:
        np.testing.assert_allclose(found[code], found["ours"], rtol=0, atol=1e-12)
    assert table["energy_error"].between(0, off).all()
    assert (table["seconds"] >= 0).all()


def test_the_eccentricity_is_that_of_the_orbit():
    state = scenarios.make("kepler", eccentricity=0.3)
    assert planet_speed._eccentricity(state) == pytest.approx(0.3)


def test_the_command_prints_what_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["planet_speed", "--solar-system", "1"])
    planet_speed.main()
    told = capsys.readouterr().out
    assert "energy error" in told
    assert "eccentricity of the innermost planet" in told
    assert "whfast c17" in told


def test_outer_planets_are_of_the_solar_system(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["planet_speed", "--outer"])
    with pytest.raises(SystemExit):
        planet_speed.main()
    assert "give both" in capsys.readouterr().err
