"""Judging a run: diagnostics and comparisons at equal cost."""
