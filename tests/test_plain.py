"""What carries a unit or a mask is refused wherever a user brings numbers in."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import nbcore as nb
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.plain import check_plain
from nbcore.physics.state import State
from nbcore.stepping.policies import Criterion, FixedStep


class Scalar:
    """A number with a unit, that would pass for a plain one."""

    def __init__(self, value, **unit):
        self.value = self.magnitude = value
        self.__dict__.update(unit)

    def __float__(self):
        return float(self.value)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype=dtype)

    def __gt__(self, other):
        return self.value > other

    def __lt__(self, other):
        return self.value < other


class Quantity(np.ndarray):
    """An array with a unit, as astropy and unyt have it."""

    unit = "km"


def masked(value):
    return np.ma.array(value, mask=np.arange(np.size(value)).reshape(np.shape(value)) == 0)


CARRIERS = {
    "unit": lambda x: Scalar(x, unit="km"),
    "units": lambda x: Scalar(x, units="kilometer"),
    "array with a unit": lambda x: np.asarray(x, dtype=float).view(Quantity),
    "list of quantities": lambda x: [Scalar(each, unit="km") for each in np.atleast_1d(x)],
    "nested tuples": lambda x: tuple((Scalar(each, unit="km"),) for each in np.ravel(x)),
    "array of objects": lambda x: np.array([Scalar(e, unit="km") for e in np.ravel(x)], object),
    "attributes of xarray": lambda x: xr.DataArray(np.asarray(x), attrs={"units": "km"}),
    "attributes of pandas": lambda x: with_attrs(pd.Series(np.ravel(x))),
    "table of quantities": lambda x: pd.DataFrame({"x": CARRIERS["list of quantities"](x)}),
    "time of numpy": lambda x: np.asarray(x).astype(int).astype("timedelta64[s]"),
    "time of pandas": lambda x: pd.Series(pd.to_timedelta(np.ravel(x).astype(int), unit="s")),
    "mask": masked,
    "mask without masked elements": lambda x: np.ma.array(x, mask=np.zeros(np.shape(x), bool)),
    "missing value": lambda x: pd.Series([pd.NA] * np.size(x), dtype="Float64"),
    "complex": lambda x: np.asarray(x) + 1j,
    "complex tensor": lambda x: torch.as_tensor(np.asarray(x)) + 1j,
}


def with_attrs(series):
    series.attrs["unit"] = "km"
    return series


MASS, POSITION, VELOCITY = [1.0, 1.0], [[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]
STATE = State.from_arrays(MASS, POSITION, VELOCITY)


def given(**changes):
    return {"mass": MASS, "position": POSITION, "velocity": VELOCITY, **changes}


EDGES = {
    "mass": (MASS, lambda x: State.from_arrays(**given(mass=x))),
    "position": (POSITION, lambda x: State.from_arrays(**given(position=x))),
    "velocity": (VELOCITY, lambda x: State.from_arrays(**given(velocity=x))),
    "G": (1.0, lambda x: State.from_arrays(**given(G=x))),
    "softening": (0.1, lambda x: State.from_arrays(**given(softening=x))),
    "time": (0.0, lambda x: State.from_arrays(**given(time=x))),
    "field mass": (1.0, lambda x: TidalField(x, (9.0, 0.0))),
    "field position": ((9.0, 0.0), lambda x: TidalField(1.0, x)),
    "field velocity": ((9.0, 0.0), lambda x: TidalField(1.0, (9.0, 0.0), x)),
    "t_end": (1.0, lambda x: nb.simulate(STATE, x)),
    "tolerance": (1e-6, lambda x: nb.simulate(STATE, 1.0, tolerance=x)),
    "record": ([0.5, 1.0], lambda x: nb.simulate(STATE, 1.0, record=x)),
    "max_steps": (10, lambda x: nb.simulate(STATE, 1.0, max_steps=x)),
    "collision_distance": (0.1, lambda x: nb.simulate(STATE, 1.0, collision_distance=x)),
    "escape_distance": (9.0, lambda x: nb.simulate(STATE, 1.0, escape_distance=x)),
    "eta": (0.1, lambda x: Criterion("boekholt", x)),
    "dt": (0.1, lambda x: FixedStep(x)),
    "semi_major_axis": (1.0, lambda x: scenarios.make("kepler", semi_major_axis=x)),
    "masses": ((1.0, 0.0, 1.0), lambda x: scenarios.make("hierarchical_triple", masses=x)),
    "G of the system": (1.0, lambda x: scenarios.make("kepler", G=x)),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("edge", EDGES)
def test_what_carries_more_than_numbers_is_refused_with_the_remedy(edge, carrier):
    value, call = EDGES[edge]
    with pytest.raises(InputError, match=f"{edge} .*carries an? .*; give (plain|real) numbers"):
        call(CARRIERS[carrier](value))


def test_a_file_is_not_asked_for_a_G_with_a_unit(tmp_path):
    scenarios.save(STATE, tmp_path / "a.json")
    with pytest.raises(InputError, match="G carries a unit"):
        scenarios.load(tmp_path / "a.json", G=Scalar(1.0, unit="km3 / (kg s2)"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        1,
        2.5,
        None,
        "text",
        np.float32(1.5),
        np.arange(3),
        [[1, 2], (3, 4.0)],
        torch.ones(2, requires_grad=True),
        np.ma.array([1.0, 2.0]),
        pd.Series([1.0, 2.0]),
        pd.DataFrame({"x": [1.0], "y": [2]}),
        xr.DataArray([1.0], attrs={"long_name": "x"}),
        xr.DataArray([1.0], attrs={"units": "1"}),
        Scalar(1.0, unit=""),
        Scalar(1.0, units="dimensionless"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_numbers_pass(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_plain("value", value)


def test_a_quantity_of_xarray_in_an_array_is_seen():
    wrapper = SimpleNamespace(attrs={}, data=np.ones(2).view(Quantity))
    with pytest.raises(InputError, match=r"value carries a unit \(km\)"):
        check_plain("value", wrapper)
