import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from power_laws import WIDE, ours_and_theirs, rows, table

from nbcore.analysis.frontiers import frontiers
from nbcore.errors import InputError
from nbcore.views.frontiers import frontier_panel, frontiers_figure, leaders
from nbcore.views.style import GREY


def panel(made, highlight=()):
    ax = Figure(layout="constrained").subplots()
    artists = frontier_panel(frontiers(made), ax, highlight)
    FigureCanvasAgg(ax.figure).draw()
    return ax, artists


def one_family():
    return table(
        rows("two_body_e50", "m", "classical", 1e-4, 4, WIDE, scatter=1.5),
        rows("two_body_e50", "n", "classical", 2e-4, 4, WIDE),
        rows("two_body_e50", "heyoka", "peer", 3e-4, 4, WIDE),
    )


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_the_error_shrinks_to_the_right_on_logarithmic_axes():
    ax, _ = panel(one_family())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    left, right = ax.get_xlim()
    assert left > right
    assert ax.get_title() == "two bodies, e = 0.5"


def test_peers_have_markers_and_ours_a_colour_and_a_band_only_where_highlighted():
    ax, _ = panel(one_family(), highlight=["m"])
    drawn = lines(ax)
    assert drawn["heyoka"].get_marker() == "o"
    assert drawn["m"].get_marker() == drawn["n"].get_marker() == "None"
    assert drawn["n"].get_color() == GREY != drawn["m"].get_color()
    assert len(ax.collections) == 1


def test_points_are_drawn_from_loose_to_strict_where_the_error_is_below_one():
    ax, _ = panel(one_family())
    errors = np.asarray(lines(ax)["m"].get_xdata())
    assert (errors < 1).all()
    assert (np.diff(errors) < 0).all()


def test_a_panel_of_two_families_is_refused():
    with pytest.raises(InputError, match=r"of 2 \(five_body, two_body_e50\); choose"):
        panel(ours_and_theirs())


def test_a_figure_has_a_panel_a_family_and_one_legend():
    figure = frontiers_figure(ours_and_theirs())
    FigureCanvasAgg(figure).draw()
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["two bodies, e = 0.5", "5 unequal bodies"]
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["kahan_li8 boekholt", "heyoka", "bs", "our other methods"]
    assert figure.axes[0].get_ylabel() == "CPU time of a system [s]"
    assert figure.axes[0].get_xlabel() == "max energy error"


def test_families_without_an_error_are_left_out_and_none_at_all_is_said():
    made = ours_and_theirs()
    figure = frontiers_figure(made, error="position_error")
    assert [ax.get_title() for ax in figure.axes] == ["two bodies, e = 0.5"]
    made["position_error"] = np.nan
    figure = frontiers_figure(made, error="position_error")
    FigureCanvasAgg(figure).draw()
    assert "no family has a position error" in figure.axes[0].texts[0].get_text()


def test_a_method_without_accurate_points_can_be_drawn():
    ax, _ = panel(table(rows("f", "m", "fixed", 1.0, 2, WIDE)))
    assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


def test_leaders_are_ours_and_the_most_frequent_winner_comes_first():
    made = table(
        rows("f", "a", "classical", 1e-4, 4, WIDE),
        rows("g", "a", "classical", 1e-4, 4, WIDE),
        rows("h", "b", "learned", 1e-4, 4, WIDE),
        *(rows(name, "c", "fixed", 9e-4, 4, WIDE) for name in "fgh"),
        *(rows(name, "bs", "peer", 1e-5, 4, WIDE) for name in "fgh"),
    )
    assert leaders(frontiers(made)) == ["a", "b"]
    assert leaders([]) == []
