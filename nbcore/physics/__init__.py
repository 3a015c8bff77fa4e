"""What nature does: states, gravity, fields, integrators, scenarios."""
