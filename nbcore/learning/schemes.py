"""What an epoch of training does: the schemes that follow a gradient, and the table of all."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from nbcore.errors import InputError
from nbcore.learning.evolution import Evolution
from nbcore.learning.labels import Oracle
from nbcore.learning.optimisation import Learner, Tally
from nbcore.learning.systems import Problem, draw_tolerances
from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem
from nbcore.physics.state import State
from nbcore.stepping.policies import Memory

__all__ = ["SCHEMES", "Scheme", "warm_up"]


class Scheme(Protocol):
    """One way to go through an epoch."""

    def __init__(self, learner: Learner, problems: list[Problem], pools: list[State]) -> None: ...

    def epoch(self) -> dict[str, float]:
        """Train for an epoch and say how it went."""
        ...

    def get(self) -> dict[str, Any]:
        """Everything that the next epoch depends on besides the weights."""
        ...

    def set(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        ...


def warm_up(learner: Learner, state: State, tolerance: PerSystem) -> tuple[State, Memory]:
    """Memory of a policy that looks back, after as many steps as it looks; states move along."""
    policy = learner.policy
    memory = policy.begin(state)
    with torch.no_grad():
        for _ in range(policy.spec.history):
            dt = policy(state, tolerance, memory)
            after = learner.integrator.step(state, dt)
            memory = policy.advance(memory, state, after, dt)
            state = after
    return state, memory


class Batched:
    """Every optimiser step draws a batch of states and tolerances from the pool."""

    def __init__(self, learner: Learner, problems: list[Problem], pools: list[State]) -> None:
        self._learner, self._pools = learner, pools

    def epoch(self) -> dict[str, float]:
        """As many optimiser steps as there are batches."""
        tally, config = Tally(), self._learner.config
        for _ in range(config.batches):
            pool = self._pools[0]
            if len(self._pools) > 1:
                pool = self._pools[int(torch.randint(len(self._pools), ()))]
            chosen = torch.randint(pool.n_systems, (config.batch_size,))
            state = pool.select(chosen)
            tolerance = draw_tolerances(config, state.time)
            state, memory = warm_up(self._learner, state, tolerance)
            self._learner.learn(state, tolerance, memory, tally)
        return tally.means()

    def get(self) -> dict[str, Any]:
        """Nothing but the weights and the random numbers carries over."""
        return {}

    def set(self, saved: dict[str, Any]) -> None:
        """Nothing to do."""


class TwoPhase:
    """Collect accepted steps, retraining where one is rejected; then replay them until all pass.

    Part 1 goes along the orbits. A system whose step changes the energy by more than
    `energy_threshold` tolerances is trained on where it stands, up to `max_retrain_steps` times;
    then it starts again from its initial state. Part 2 goes over the collected states in
    minibatches. The next epoch goes on from where part 1 ended.
    """

    def __init__(self, learner: Learner, problems: list[Problem], pools: list[State]) -> None:
        self._learner = learner
        if len(problems) > 1:
            raise InputError(
                f"train.families have {len(problems)} numbers of bodies and dimensions, and the "
                "scheme 'two_phase' steps all its systems together; use 'evolution', or one family"
            )
        systems = problems[0].state
        self._systems = systems.replace(
            batched=True, acceleration=gravity.acceleration(systems)
        ).detach()
        self._state = self._systems
        self._memory = learner.policy.begin(self._systems)
        self._steps = torch.zeros_like(systems.time)
        self._tolerance = draw_tolerances(learner.config, systems.time)

    def epoch(self) -> dict[str, float]:
        """Part 1, then part 2."""
        tally = Tally()
        collected = [self._collect(tally) for _ in range(self._learner.config.steps_per_epoch)]
        states = State.concatenate([state for state, _, _ in collected])
        tolerance = torch.cat([part for _, part, _ in collected])
        memory = {
            name: torch.cat([part[name] for _, _, part in collected]) for name in self._memory
        }
        if states.n_systems >= self._learner.config.min_replay_size:
            self._replay(states, tolerance, memory, tally)
        return tally.means()

    def _passes(self, state: State, tolerance: PerSystem, memory: Memory) -> tuple[Tensor, ...]:
        """Whether the next step of each system is good, that step, and its energy error."""
        r = self._learner.look(state, tolerance, memory, 1)
        limit = self._learner.config.energy_threshold * tolerance
        return r.energy[0] < limit, r.dt[0], r.energy[0]

    def _collect(self, tally: Tally) -> tuple[State, PerSystem, Memory]:
        """One step of every system; returns the states whose step was accepted."""
        learner, config = self._learner, self._learner.config
        state, memory, tolerance = self._state, self._memory, self._tolerance
        good, dt, error = self._passes(state, tolerance, memory)
        first, retrained = good, 0
        while retrained < config.max_retrain_steps and not bool(good.all()):
            bad = ~good
            learner.learn(state.select(bad), tolerance[bad], _at(memory, bad), tally)
            good, dt, error = self._passes(state, tolerance, memory)
            retrained += 1
        after = learner.integrator.step(state, dt).detach()
        moved = _detached(learner.policy.advance(memory, state, after, dt))
        warm = good & (self._steps >= learner.policy.spec.history)
        self._go_on(after, moved, good)
        tally.add(
            acceptance_rate=float(first.double().mean()),
            retrain_steps=retrained,
            given_up=float((~good).double().mean()),
            dt=float(dt.log().mean().exp()),
            energy_error=float(error.median()),
        )
        return state.select(warm), tolerance[warm], _at(memory, warm)

    def _go_on(self, after: State, memory: Memory, good: Tensor) -> None:
        """Keep good steps; systems that were given up or have run long enough start again."""
        config = self._learner.config
        going = good & (after.time - self._systems.time < config.orbit_time)
        fresh = self._learner.policy.begin(self._systems)
        self._state = after.where(going, self._systems)
        self._memory = {
            name: torch.where(going.view(-1, *[1] * (new.ndim - 1)), new, fresh[name])
            for name, new in memory.items()
        }
        self._steps = torch.where(going, self._steps + 1, 0.0)
        drawn = draw_tolerances(config, self._tolerance)
        self._tolerance = torch.where(going, self._tolerance, drawn)

    def _replay(self, states: State, tolerance: PerSystem, memory: Memory, tally: Tally) -> None:
        config, pass_rate = self._learner.config, math.nan
        for _ in range(config.replay_steps):
            for chosen in torch.randperm(states.n_systems).split(config.replay_batch_size):
                batch = (states.select(chosen), tolerance[chosen], _at(memory, chosen))
                self._learner.learn(*batch, tally)
            good, _, _ = self._passes(states, tolerance, memory)
            pass_rate = float(good.double().mean())
            if pass_rate == 1:
                break
        tally.add(pass_rate=pass_rate, collected=states.n_systems)

    def get(self) -> dict[str, Any]:
        """Where every system stands."""
        names = ("position", "velocity", "time", "work", "acceleration")
        return {
            "state": {name: getattr(self._state, name) for name in names},
            "memory": self._memory,
            "steps": self._steps,
            "tolerance": self._tolerance,
        }

    def set(self, saved: dict[str, Any]) -> None:
        """Put every system back."""
        self._state = self._systems.replace(**saved["state"])
        self._memory, self._steps = saved["memory"], saved["steps"]
        self._tolerance = saved["tolerance"]


def _at(memory: Memory, index: Tensor) -> Memory:
    return {name: value[index] for name, value in memory.items()}


def _detached(memory: Memory) -> Memory:
    return {name: value.detach() for name, value in memory.items()}


SCHEMES: dict[str, type[Scheme]] = {
    "batched": Batched,
    "two_phase": TwoPhase,
    "oracle": Oracle,
    "evolution": Evolution,
}
