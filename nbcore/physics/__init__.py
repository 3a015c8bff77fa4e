"""What nature does: states, gravity, fields, integrators, scenarios."""

from nbcore.physics import gravity, scenarios

__all__ = ["gravity", "scenarios"]
