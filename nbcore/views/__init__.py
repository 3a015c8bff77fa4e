"""Seeing a run: plots and movies."""

from nbcore.views import movies, plots

__all__ = ["movies", "plots"]
