"""Random numbers by seed and purpose: systems to judge by are never those that were trained on."""

from __future__ import annotations

import numpy as np

from nbcore.errors import InputError, unknown_name

__all__ = ["PURPOSES", "stream"]


def stream(seed: int, purpose: str) -> np.random.SeedSequence:
    """Where the random numbers of a seed begin for a purpose.

    No two of them are the same, whatever their seeds: a purpose is hashed beside the seed, and not
    added to it. For "train" the numbers are those of the plain seed.

    Parameters
    ----------
    seed
        0 or more, of any size.
    purpose
        Name in PURPOSES.

    Raises
    ------
    InputError
        The seed is not such a number, or the purpose is unknown.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed is {seed!r}; it must be a whole number, 0 or more")
    if purpose not in PURPOSES:
        raise unknown_name("purpose", purpose, PURPOSES)
    return np.random.SeedSequence(int(seed), spawn_key=PURPOSES[purpose])


# Words that are hashed after those of the seed. The last is 0, as the highest word of a plain seed
# never is, so that no seed, however large, is another's with a purpose.
PURPOSES: dict[str, tuple[int, ...]] = {
    "train": (),
    "calibration": (1, 0),
    "held_out": (2, 0),
    "benchmark": (3, 0),
}
