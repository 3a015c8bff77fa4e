"""NBCORE."""
