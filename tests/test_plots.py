import matplotlib
import numpy as np
import pytest
from analytic_orbits import on_circles
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nbcore.errors import InputError
from nbcore.views import plots
from nbcore.views.style import colour_of, window

OF_A_TRAJECTORY = {
    "orbits": ("x [L]", "y [L]"),
    "errors": ("time [T]", "relative error"),
    "steps": ("time [T]", "dt [T]"),
    "step_against_separation": ("closest pair's distance [L]", "dt [T]"),
}
HISTORY = [
    {"epoch": i, "loss": 2.0 / (i + 1), "energy_band": 1.0 / (i + 1), "dt": 1e-3, "seconds": i}
    for i in range(5)
]
ROWS = [
    {"method": "boekholt", "median": 1e-5, "p10": 1e-6, "p90": 1e-4},
    {"method": "learned", "median": 1e-6, "p10": 3e-7, "p90": 3e-6},
]


def axes():
    with plots.style():
        return Figure(layout="constrained").subplots()


def drawn(ax):
    """The figure rendered, and everything in its lines finite."""
    FigureCanvasAgg(ax.figure).draw()
    for line in ax.lines:
        assert np.isfinite(line.get_xydata()).all()
    return ax


def labels(ax):
    return ax.get_xlabel(), ax.get_ylabel()


@pytest.mark.parametrize("name", OF_A_TRAJECTORY)
@pytest.mark.parametrize(("n_bodies", "n_dimensions"), [(2, 2), (5, 3)])
def test_every_picture_of_a_trajectory_has_labels_with_units(name, n_bodies, n_dimensions):
    ax = axes()
    artists = getattr(plots, name)(on_circles(n_bodies, n_dimensions=n_dimensions), ax)
    assert labels(drawn(ax)) == OF_A_TRAJECTORY[name]
    assert artists


@pytest.mark.parametrize("name", [*OF_A_TRAJECTORY, "summary_figure"])
def test_a_batch_is_refused_with_the_remedy(name):
    batch = on_circles(n_systems=3)
    rest = () if name == "summary_figure" else (axes(),)
    with pytest.raises(InputError, match=r"batch of 3; give trajectory\.system\(0\)"):
        getattr(plots, name)(batch, *rest)
    getattr(plots, name)(batch.system(1), *rest)


def test_orbits_keep_one_scale_and_mark_start_and_end():
    ax = axes()
    plots.orbits(on_circles(3), ax)
    assert drawn(ax).get_aspect() == 1
    points = [line.get_xydata()[0] for line in ax.lines if len(line.get_xydata()) == 1]
    trajectory = on_circles(3)
    expected = np.stack([trajectory.position[0], trajectory.position[-1]], axis=1).reshape(-1, 2)
    np.testing.assert_allclose(points, expected)


@pytest.mark.parametrize(("n_bodies", "named"), [(8, True), (9, False)])
def test_bodies_are_named_while_a_legend_is_of_use(n_bodies, named):
    ax = axes()
    plots.orbits(on_circles(n_bodies), ax)
    assert (ax.get_legend() is not None) == named


def test_errors_of_zero_are_left_out_of_the_log_axis_and_the_tolerance_is_drawn():
    ax = axes()
    plots.errors(on_circles(tolerance=1e-6), ax)
    assert drawn(ax).get_yscale() == "log"
    curves = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert len(curves["momentum (zero)"]) == 0
    assert (np.asarray(curves["energy"]) > 0).all()
    assert set(curves["tolerance 1e-06"]) == {1e-6}


def test_errors_that_are_all_zero_can_be_drawn():
    trajectory = on_circles(tolerance=np.nan)
    for name in ("energy_error", "angular_momentum_error", "body_error"):
        trajectory.arrays[name][:] = 0.0
    ax = axes()
    plots.errors(trajectory, ax)
    assert "no errors above zero" in [text.get_text() for text in drawn(ax).texts]


@pytest.mark.parametrize("name", OF_A_TRAJECTORY)
def test_a_run_that_ended_in_nan_can_be_drawn(name):
    trajectory = on_circles(3)
    for field in ("position", "velocity", "energy_error"):
        trajectory.arrays[field][:, -1] = np.nan
    ax = axes()
    getattr(plots, name)(trajectory, ax)
    FigureCanvasAgg(ax.figure).draw()
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


def test_the_closest_pair_is_the_one_on_neighbouring_circles():
    ax = axes()
    plots.step_against_separation(on_circles(2), ax)
    distance = np.asarray(ax.lines[0].get_xdata())
    assert distance.min() >= 1 - 1e-12  # radii 1 and 2
    assert distance.max() <= 3 + 1e-12


def test_a_run_that_was_killed_has_a_summary_without_counts():
    trajectory = on_circles()
    for name in ("n_steps", "n_force_evaluations", "max_energy_error"):
        trajectory.summary[name] = np.array([np.nan])
    figure = plots.summary_figure(trajectory)
    assert "? in all" in figure.axes[2].get_title()


def test_the_summary_shows_orbits_errors_and_steps():
    figure = plots.summary_figure(on_circles(3))
    FigureCanvasAgg(figure).draw()
    shown = [ax.get_ylabel() for ax in figure.axes]
    assert shown == ["y [L]", "relative error", "dt [T]"]


def test_the_window_keeps_bound_orbits_and_lets_an_escaper_go():
    time = np.linspace(0, 1, 400)
    phase = 2 * np.pi * 7 * time[:, None] + np.array([0, np.pi])
    pair = np.stack([np.cos(phase), np.sin(phase)], axis=-1)
    lower, upper = window(pair)
    assert (lower < -1).all()
    assert (upper > 1).all()
    flight = np.stack([1000 * time, 0 * time], axis=-1)[:, None]
    lower, upper = window(np.concatenate([pair, flight], axis=1))
    assert (lower < -1).all()
    assert (upper > 1).all()
    assert (upper - lower).max() < 10


def test_the_window_of_a_body_that_rests_is_not_empty():
    lower, upper = window(np.ones((5, 1, 2)))
    assert (upper > lower).all()


def test_training_draws_the_loss_its_parts_and_the_step():
    ax = axes()
    artists = plots.training(HISTORY, ax)
    assert labels(drawn(ax)) == ("epoch", "loss and its parts")
    assert ax.get_yscale() == "log"
    names = [artist.get_label() for artist in artists[:-1]]
    assert names == ["loss", "energy band", "dt [T]"]


def test_training_with_a_negative_part_or_a_single_epoch_is_drawn_on_a_linear_axis():
    ax = axes()
    plots.training([{"loss": 1.0, "step_size": -0.5}, {"dt": 1e-3}], ax)
    assert drawn(ax).get_yscale() == "linear"


@pytest.mark.parametrize("history", [[], [{"epoch": 0}]])
def test_training_without_a_loss_is_refused(history):
    with pytest.raises(InputError, match="train for at least one epoch"):
        plots.training(history, axes())


def test_the_comparison_has_the_most_accurate_on_top_and_the_learned_set_off():
    ax = axes()
    plots.cost_comparison(ROWS, ax)
    assert drawn(ax).get_xscale() == "log"
    names = ax.get_yticklabels()
    assert [name.get_text() for name in names] == ["boekholt", "learned"]
    assert [name.get_fontweight() for name in names] == ["normal", "bold"]


def test_a_method_that_lost_its_runs_stands_at_the_edge_below_the_others():
    ax = axes()
    lost = {"method": "fixed", "median": np.inf, "p10": 0.0, "p90": np.inf}
    plots.cost_comparison([lost, *ROWS], ax)
    assert drawn(ax).get_yticklabels()[0].get_text() == "fixed"
    assert "lost" in [text.get_text() for text in ax.texts]


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one method"):
        plots.cost_comparison([], axes())


def test_the_style_ends_with_its_context():
    before = dict(matplotlib.rcParams)
    with plots.style():
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", plots.PANELS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_panel_draws_one_run_or_several_with_a_labelled_axis(name, count):
    runs = [on_circles(3), on_circles(3, n_records=20, tolerance=1e-5)][:count]
    ax = axes()
    plots.PANELS[name](runs, ax)
    assert ax.get_xlabel() == "time [T]"
    assert ax.get_ylabel()
    if name == "energy_error":
        curves = [line for line in ax.lines if len(line.get_ydata()) > 2]
        assert len(curves) == count
        assert 1e-6 in ax.lines[-1].get_ydata()  # the tolerance of the first


def test_an_unknown_quantity_is_refused():
    with pytest.raises(InputError, match="did you mean 'energy_error'"):
        plots.along_time([on_circles()], axes(), "energy_eror")


def test_the_dark_look_draws_black_things_in_its_ink():
    with plots.style("dark"):
        assert colour_of(6) == matplotlib.rcParams["text.color"] != "#000000"


def test_the_histogram_counts_every_step():
    ax = axes()
    plots.step_histogram(on_circles(n_records=60), ax)
    assert sum(bar.get_height() for bar in ax.patches) == 59
    assert ax.get_xlabel() == "dt [T]"
