"""Widgets that edit parts of a `config.Simulation`: a scenario's parameters, a choice of steps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from inspect import signature
from typing import Any, Literal, get_args, get_origin, get_type_hints

import ipywidgets as widgets

from nbcore.config import ScenarioConfig, Simulation, parse_value
from nbcore.physics.integrators import INTEGRATORS
from nbcore.physics.scenarios import SCENARIOS
from nbcore.stepping.checkpoints import shipped_policies
from nbcore.stepping.criteria import CRITERIA

__all__ = ["LOOK", "Parameters", "Steps"]

# Of every control, so that they stand in line; the longest name is outer_semi_major_axis.
LOOK: Any = {"layout": {"width": "95%"}, "style": {"description_width": "150px"}}
AS_TRAINED = ("as trained", "")  # a dropdown takes no None
RANGES = {"phase": (1.0, 0.005), "inclination": (180.0, 0.1)}  # ends and steps, by name's end
MOST = {"n_bodies": 100, "n_planets": 12}
DECADES = 2.0  # of a positive number, either way


class Parameters:
    """A control for every parameter of a scenario; none for a file.

    Parameters
    ----------
    scenario
        To start from.
    changed
        Called after every change.

    Attributes
    ----------
    box
        The controls.
    """

    def __init__(self, scenario: ScenarioConfig, changed: Callable[[], None]) -> None:
        self._controls: dict[str, Any] = {}
        self._given = dict(scenario.parameters)
        if scenario.source in SCENARIOS:
            self._fill(scenario)
        for control in self._controls.values():
            control.observe(lambda _: changed(), "value")
        self.box = widgets.VBox(list(self._controls.values()))

    @property
    def may_be_many(self) -> bool:
        """Whether there is a batch to choose a system from."""
        return not self._controls or self._given.get("n_systems", 1) > 1

    def _fill(self, scenario: ScenarioConfig) -> None:
        function = SCENARIOS[scenario.source]
        hints = get_type_hints(function, include_extras=True)
        if "n_systems" in hints:
            self._given.setdefault("n_systems", 1)
        for name, parameter in signature(function).parameters.items():
            if name != "n_systems":
                value = self._given.get(name, parameter.default)
                self._controls[name] = _control(name, hints[name], value)

    def values(self) -> dict[str, Any]:
        """Arguments of the scenario."""
        return self._given | {name: _value(each) for name, each in self._controls.items()}


class Steps:
    """Policy, accuracy, integrator and way to step.

    Parameters
    ----------
    settings
        To start from.
    changed
        Called after every change.

    Attributes
    ----------
    box
        The controls.
    """

    def __init__(self, settings: Simulation, changed: Callable[[], None]) -> None:
        self._policy = widgets.Combobox(
            value=settings.policy,
            options=["auto", *shipped_policies(), *CRITERIA, "fixed"],
            description="policy",
            continuous_update=False,
            **LOOK,
        )
        self._accuracies = {
            "tolerance": _decades("tolerance", settings.tolerance, -11, -2),
            "eta": _decades("eta", settings.eta, -3, 0.5),
            "dt": _decades("dt", settings.dt, -5, 0),
        }
        self._integrator = widgets.Dropdown(
            options=[AS_TRAINED, *((name, name) for name in ("auto", *INTEGRATORS))],
            value=settings.integrator or "",
            description="integrator",
            **LOOK,
        )
        self._stepping = widgets.Dropdown(
            options=[AS_TRAINED, ("plain", "plain"), ("reversible", "reversible")],
            value=settings.stepping or "",
            description="stepping",
            **LOOK,
        )
        self.box = widgets.VBox()
        self._lay_out()
        self._policy.observe(lambda _: self._lay_out(), "value")
        for control in (self._policy, self._integrator, self._stepping, *self._accuracies.values()):
            control.observe(lambda _: changed(), "value")

    @property
    def _asked_by(self) -> str:
        """Name of the setting by which this policy is asked for an accuracy."""
        if self._policy.value == "fixed":
            return "dt"
        return "eta" if self._policy.value in CRITERIA else "tolerance"

    def _lay_out(self) -> None:
        accuracy = self._accuracies[self._asked_by]
        self.box.children = [self._policy, accuracy, self._integrator, self._stepping]

    def values(self) -> dict[str, Any]:
        """Settings of the configuration."""
        accuracies = {name: control.value for name, control in self._accuracies.items()}
        return accuracies | {
            "policy": self._policy.value,
            "integrator": self._integrator.value or None,
            "stepping": self._stepping.value or None,
        }


def _decades(name: str, value: float, low: float, high: float) -> widgets.FloatLogSlider:
    look = {"readout_format": ".1e", "description": name, **LOOK}
    at = math.log10(value)
    return _logarithmic(value, min(low, at), max(high, at), 0.05, look)


def _logarithmic(
    value: float, low: float, high: float, step: float, look: dict[str, Any]
) -> widgets.FloatLogSlider:
    """Slider over decades, of which the value is a step: the browser moves it to the next one."""
    at = math.log10(value)
    below, above = (math.ceil(abs(end - at) / step - 1e-9) for end in (low, high))
    ends = {"min": at - below * step, "max": at + above * step}
    return widgets.FloatLogSlider(value=value, base=10, step=step, **ends, **look)


def _linear(value: float, high: float, step: float, look: dict[str, Any]) -> Any:
    """Slider from zero; text for a value that it would move to its next step."""
    if 0 <= value <= high and math.isclose(value, round(value / step) * step, abs_tol=1e-12):
        return widgets.FloatSlider(value=value, min=0.0, max=high, step=step, **look)
    return widgets.FloatText(value=value, **look)


def _control(name: str, hint: Any, value: Any) -> Any:
    """Widget for a parameter: a slider where its range is known, text where it is a list."""
    look = {"description": name, **LOOK}
    kind = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if get_origin(kind) is Literal:
        return widgets.Dropdown(options=get_args(kind), value=value, **look)
    if get_origin(kind) is tuple or isinstance(value, (tuple, list)):
        text = value if isinstance(value, (int, float)) else list(value)
        return widgets.Text(value=json.dumps(text), continuous_update=False, **look)
    least = next((m.ge for m in _bounds(hint) if hasattr(m, "ge")), None)
    if kind is int:
        if name in MOST:
            return widgets.IntSlider(value=value, min=least, max=max(MOST[name], value), **look)
        return widgets.BoundedIntText(value=value, min=least, max=10**9, **look)
    if any(hasattr(m, "lt") for m in _bounds(hint)):  # below one
        return _linear(value, 0.999, 0.001, look)
    for ending, (high, step) in RANGES.items():
        if name.endswith(ending):
            return _linear(value, high, step, look)
    if value > 0:
        at = math.log10(value)
        return _logarithmic(value, at - DECADES, at + DECADES, 0.01, look)
    return widgets.FloatText(value=value, **look)


def _bounds(hint: Any) -> list[Any]:
    """Bounds among the annotations of a type."""
    found = []
    for note in getattr(hint, "__metadata__", ()):
        found += getattr(note, "metadata", [note])
    return found


def _value(control: Any) -> Any:
    return parse_value(control.value) if isinstance(control, widgets.Text) else control.value
