"""What runs a job on this machine, again as often as it asks for that.

`python -m nbcore.runs.local_jobs FOLDER` stands in for submitit's own process of this kind, which
starts a job six times and then leaves it, however many requeues are left.
"""

import os
import shlex
import sys
from pathlib import Path

__all__ = ["NAME", "instead_of_submitits"]

NAME = "nbcore.runs.local_jobs"


def instead_of_submitits(folder: Path) -> str:
    """Line of shell after which submitit's own is not reached."""
    return "exec " + shlex.join([sys.executable, "-m", NAME, str(folder)])


if __name__ == "__main__":
    from submitit.local.local import Controller

    os.environ["SUBMITIT_LOCAL_WITH_SHELL"] = ""  # this process has taken the shell's place
    Controller(Path(sys.argv[1])).run(max_retry=sys.maxsize)
