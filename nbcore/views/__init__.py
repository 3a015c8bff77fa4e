"""Seeing a run: plots and movies."""
