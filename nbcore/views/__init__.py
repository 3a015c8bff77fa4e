"""Seeing a run: plots, movies, and what a policy has learned."""

from nbcore.views import lessons, movies, plots, search

__all__ = ["lessons", "movies", "plots", "search"]
