"""Doing it headless: notebooks, run folders, the command line."""
