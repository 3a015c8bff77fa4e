"""Judging a run: diagnostics and comparisons at equal cost."""

from nbcore.analysis import comparison, diagnostics

__all__ = ["comparison", "diagnostics"]
