import numpy as np
import pytest
import torch

from nbcore.errors import InputError
from nbcore.physics.fields import TidalField
from nbcore.physics.state import State

MASS = [1.0, 2.0, 3.0]
POSITION = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
VELOCITY = [[0.0, 0.1], [0.2, 0.0], [0.0, 0.3]]


def single(**changes):
    given = {"mass": MASS, "position": POSITION, "velocity": VELOCITY, **changes}
    return State.from_arrays(**given)


def batch(n_systems=3):
    shift = np.arange(n_systems)[:, None, None]
    return State.from_arrays(
        np.tile(MASS, (n_systems, 1)),
        np.array(POSITION) * (1 + shift),
        np.array(VELOCITY) + shift,
        time=np.arange(n_systems),
    )


def test_a_single_system_is_a_batch_of_one_that_remembers_it_was_single():
    state = single()
    assert (state.n_systems, state.n_bodies, state.n_dimensions) == (1, 3, 2)
    assert not state.batched
    assert state.to_arrays()["position"].shape == (3, 2)
    assert batch().batched
    assert batch().to_arrays()["position"].shape == (3, 3, 2)


def test_integers_and_single_precision_become_double_precision():
    state = single(mass=[1, 2, 3], position=np.array(POSITION, dtype=np.float32))
    assert state.mass.dtype == state.position.dtype == state.time.dtype == np.float64
    state = single(mass=[1, 2, 3], position=torch.tensor(POSITION, dtype=torch.float32))
    assert state.mass.dtype == state.position.dtype == state.time.dtype == torch.float64


def test_one_time_serves_all_systems_and_each_may_have_its_own():
    assert single(time=2).time.tolist() == [2.0]
    assert batch().time.tolist() == [0.0, 1.0, 2.0]


def parts(state):
    return {name: value for name, value in vars(state).items() if hasattr(value, "shape")}


def test_lists_and_arrays_make_arrays_and_one_tensor_makes_tensors():
    for position in (POSITION, np.array(POSITION)):
        made = single(position=position)
        assert all(isinstance(value, np.ndarray) for value in parts(made).values())
        assert len(parts(made)) == 5
    for name, value in {"position": POSITION, "mass": MASS, "time": 1.0}.items():
        made = single(**{name: torch.tensor(value)})
        assert all(isinstance(value, torch.Tensor) for value in parts(made).values())
        assert made.to_arrays()["position"].tolist() == POSITION


def test_a_state_goes_to_tensors_and_back_with_all_that_it_knows():
    given = batch().replace(field=TidalField(1.0, (9.0, 0.0)), G=2.0, softening=0.1)
    given = given.replace(work=np.arange(3.0), acceleration=given.position + 1)
    tensors = given.to("cpu")
    assert all(isinstance(value, torch.Tensor) for value in parts(tensors).values())
    back = tensors.numpy()
    for name, value in vars(given).items():
        if isinstance(value, np.ndarray):
            assert isinstance(getattr(back, name), np.ndarray)
            assert np.array_equal(getattr(back, name), value)
        else:
            assert getattr(back, name) == getattr(tensors, name) == value
    assert not single().to("cpu").numpy().batched


def test_tensors_lose_their_gradients_as_arrays():
    mass = torch.tensor(MASS, dtype=torch.float64, requires_grad=True)
    assert single(mass=mass).numpy().mass.tolist() == [MASS]


def test_tensors_keep_their_gradients():
    mass = torch.tensor(MASS, dtype=torch.float64, requires_grad=True)
    state = single(mass=mass)
    state.mass.sum().backward()
    assert mass.grad is not None
    assert mass.grad.tolist() == [1.0, 1.0, 1.0]
    assert not state.detach().mass.requires_grad


def test_arrays_given_or_taken_can_be_changed_without_changing_the_state():
    position = np.array(POSITION)
    state = single(position=position)
    position[:] = 7
    state.to_arrays()["position"][:] = 8
    assert state.position[0].tolist() == POSITION


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mass": "abc"}, "mass can't be read"),
        ({"mass": [1, None, 3]}, "mass"),
        ({"position": [[0, 0], [1, 0], [2]]}, "position can't be read"),
        ({"position": [0, 1, 2]}, r"position has shape \(3,\)"),
        ({"position": np.zeros((1, 1, 3, 2))}, r"position has shape"),
        ({"velocity": [[0, 0], [1, 0]]}, r"velocity has shape \(2, 2\)"),
        ({"mass": [1, 2]}, r"mass has shape \(2,\) for 3 bodies"),
        ({"mass": 1.0}, r"mass has shape \(\) for 3 bodies; it must be \(3,\), one mass a body"),
        ({"mass": [[1, 2, 3]]}, r"mass has shape \(1, 3\) .*; it must be \(3,\)"),
        ({"mass": None}, "mass is None; give an array or a list"),
        ({"position": np.ones((0, 2)), "velocity": np.ones((0, 2))}, "N = 0; .* at least 2"),
        ({"mass": [1], "position": [[0, 0]], "velocity": [[0, 0]]}, "N = 1"),
        ({"position": np.eye(3, 1), "velocity": np.eye(3, 1)}, "D = 1"),
        ({"position": np.eye(3, 4), "velocity": np.eye(3, 4)}, "D = 4"),
        (
            {
                "mass": np.ones((0, 3)),
                "position": np.ones((0, 3, 2)),
                "velocity": np.ones((0, 3, 2)),
            },
            "empty",
        ),
        ({"mass": [1, 2, np.nan]}, r"mass\[0, 2\] is nan"),
        ({"position": [[0, 0], [np.inf, 0], [0, 2]]}, r"position\[0, 1, 0\] is inf"),
        ({"velocity": [[0, 0], [0, -np.inf], [0, 2]]}, r"velocity\[0, 1, 1\] is -inf"),
        ({"time": np.nan}, "time"),
        ({"time": [0.0, 1.0]}, r"time has shape \(2,\)"),
        ({"mass": [1, -2, 3]}, r"mass\[0, 1\] is -2"),
        ({"mass": [0, 0, 0]}, "all masses of system 0 are zero"),
        ({"G": 0.0}, "G is 0"),
        ({"G": np.nan}, "G is nan"),
        ({"G": "1"}, "G is '1'"),
        ({"softening": -0.1}, "softening is -0.1"),
        ({"softening": np.inf}, "softening is inf"),
        ({"softening": None}, "softening is None"),
        ({"position": [[0, 0], [1, 0], [1, 0]]}, "bodies 1 and 2 of system 0"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        single(**changes)


def clones(mass, places, **kind):
    position = np.array([[float(x), 0.0] for x in places])
    return State.from_arrays(mass, position, np.zeros_like(position), **kind)


def test_massless_bodies_may_be_at_one_place():
    assert clones([1, 0, 0, 0], [0, 1, 1, 1]).n_bodies == 4
    assert clones([1, 0, 0, 0, 0], [0, 1, 2, 2, 1]).n_bodies == 5
    batch = [clones(mass, [0, 1, 1]) for mass in ([1, 0, 0], [2, 0, 0])]
    assert State.concatenate(batch).n_systems == 2


@pytest.mark.parametrize(
    ("mass", "places", "pair"),
    [
        ([1, 1, 0], [0, 1, 1], "1 and 2"),
        ([0, 0, 1, 0], [1, 1, 1, 0], "0 and 2"),
        ([0, 1, 0, 0, 0], [0, 5, 2, 2, 5], "1 and 4"),
        ([1, 1e-300, 0, 0], [0, 3, 3, 3], "1 and 2"),
        ([1, 0, 0], [-0.0, 1, 0.0], "0 and 2"),
    ],
)
def test_a_body_with_mass_shares_its_place_with_none(mass, places, pair):
    with pytest.raises(InputError, match=f"bodies {pair} of system 0 are at the same place"):
        clones(mass, places)


def test_the_system_in_which_bodies_coincide_is_named():
    position = np.array([[[0.0, 0], [1, 0]], [[1, 0], [0, 0]], [[2, 0], [2, 0]]])
    with pytest.raises(InputError, match="bodies 0 and 1 of system 2"):
        State.from_arrays(np.ones((3, 2)), position, np.zeros_like(position))


def in_units(length, mass, time):
    """The three bodies in other units, all orbits alike."""
    return single(
        mass=np.array(MASS) * mass,
        position=np.array(POSITION) * length,
        velocity=np.array(VELOCITY) * (length / time),
        G=length**3 / (mass * time**2),
    )


@pytest.mark.parametrize("base", [(1e60, 1, 1), (1e-60, 1, 1), (1, 1e150, 1), (1, 1, 1e80)])
@pytest.mark.parametrize("power", [1, -1])
def test_units_of_which_powers_are_no_numbers_are_refused(base, power):
    with pytest.raises(InputError, match="choose units in which lengths, masses and times"):
        in_units(*(float(unit) ** power for unit in base))


@pytest.mark.parametrize(
    "units",
    [
        (1.5e11, 2e30, 5e6),  # SI
        (1.5e13, 2e33, 5e6),  # CGS
        (3e-11, 9e-31, 1e-16),  # an atom, in SI
        (3e24, 2e45, 3e17),  # clusters of galaxies, in SI
        (1e40, 1, 1),
        (1, 1e-100, 1),
        (1, 1, 1e60),
    ],
)
def test_units_that_people_use_are_taken(units):
    assert in_units(*units).n_bodies == 3


def test_a_pair_too_close_for_its_powers_is_refused_among_others():
    with pytest.raises(InputError, match="the smallest distance of system 0 is 1e-60"):
        single(position=[[0, 0], [1e-60, 0], [0, 2]])
    assert clones([1, 0, 0], [1, 1e-60, 0]).n_bodies == 3  # massless ones exert nothing


def test_bodies_may_coincide_when_softened():
    assert single(position=np.zeros((3, 2)), softening=0.1).n_bodies == 3


def test_select_takes_systems_by_index_or_mask():
    for state, kind in ((batch(), np.asarray), (batch().to("cpu"), torch.as_tensor)):
        for index in ([2, 0], [True, False, True]):
            for given in (index, np.array(index), kind(index)):
                taken = state.select(given)
                assert taken.batched
                assert type(taken.time) is type(state.time)
                assert np.array_equal(taken.velocity, batch().velocity[index])
                assert np.array_equal(taken.time, batch().time[index])


def test_where_chooses_system_by_system():
    here, there = batch(), batch().replace(time=np.full(3, 9.0))
    chosen = here.where(np.array([True, False, True]), there)
    assert chosen.time.tolist() == [0.0, 9.0, 2.0]
    tensors = here.to("cpu").where(torch.tensor([True, False, True]), there.to("cpu"))
    assert tensors.time.tolist() == [0.0, 9.0, 2.0]


def test_where_forgets_an_acceleration_that_only_one_side_knows():
    here = batch()
    there = here.replace(acceleration=np.zeros_like(here.position))
    assert here.where(np.array([True, False, True]), there).acceleration is None


def test_concatenate_and_select_are_inverse():
    first, second = batch(2), batch(3)
    both = State.concatenate([first, second])
    assert both.n_systems == 5
    assert np.array_equal(both.select(np.arange(2, 5)).position, second.position)
    tensors = State.concatenate([first.to("cpu"), second.to("cpu")])
    assert torch.equal(tensors.position, both.to("cpu").position)


@pytest.mark.parametrize(
    "other",
    [
        lambda: single(softening=0.1),
        lambda: single(G=2.0),
        lambda: single(field=TidalField(1.0, (9.0, 0.0))),
        lambda: State.from_arrays(MASS[:2], POSITION[:2], VELOCITY[:2]),
        lambda: State.from_arrays(MASS, np.eye(3), np.eye(3)),
    ],
    ids=["softening", "G", "field", "N", "D"],
)
def test_systems_of_different_kind_do_not_join(other):
    with pytest.raises(InputError, match="can't be joined"):
        State.concatenate([single(), other()])


def test_arrays_and_tensors_join_as_tensors():
    for pair in ([single(), single().to("cpu")], [single().to("cpu"), single()]):
        assert all(
            isinstance(value, torch.Tensor) for value in parts(State.concatenate(pair)).values()
        )


@pytest.mark.parametrize("states", [[], [1], single(), [single(), "kepler"]], ids=str)
def test_what_is_no_list_of_states_is_told(states):
    with pytest.raises(InputError, match="give a list of one State or more"):
        State.concatenate(states)


def test_repeat_keeps_the_order_of_systems():
    repeated = batch(2).repeat(2)
    assert repeated.time.tolist() == [0.0, 1.0, 0.0, 1.0]
