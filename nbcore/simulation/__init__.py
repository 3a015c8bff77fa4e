"""Running it: the engines and what they record."""
