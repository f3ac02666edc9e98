"""Which of several processes this is, by the environment of their launcher; known before torch is.

`torchrun` sets RANK and WORLD_SIZE, `srun` SLURM_PROCID and SLURM_STEP_NUM_TASKS. Where MASTER_ADDR
does not say how to reach the first, the processes are several that know nothing of each other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Return (rank, size) of a process that was started with others; None for one alone.

    >>> launched({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1"}), launched({})
    ((1, 2), None)
    """
    if not environment.get("MASTER_ADDR"):
        return None
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        place = environment.get(rank, ""), environment.get(size, "")
        if all(word.isdigit() for word in place) and int(place[1]) > 1:
            return int(place[0]), int(place[1])
    return None


def local(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return (rank, size) among the processes that were started together on this machine.

    >>> local({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}), local({"SLURM_LOCALID": "3"})
    ((1, 8), (3, 1))
    """
    for rank, size in (
        ("LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        ("SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
    ):
        if (place := environment.get(rank, "")).isdigit():
            count = environment.get(size, "")
            return int(place), int(count) if count.isdigit() else 1
    return 0, 1


def follows() -> bool:
    """Whether another process speaks and writes for this one."""
    place = launched()
    return place is not None and place[0] > 0


def restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launcher has started these processes again, after one of them had ended."""
    return environment.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def first_started(environment: Mapping[str, str] = os.environ) -> float:
    """When the launcher first started processes, in seconds since 1970; 0 if that is not known.

    torchrun has a folder for each time: errors of the second are in .../attempt_1/RANK/error.json.
    """
    file = environment.get("TORCHELASTIC_ERROR_FILE", "")
    attempts = os.path.dirname(os.path.dirname(os.path.dirname(file)))
    try:
        return os.stat(os.path.join(attempts, "attempt_0")).st_mtime
    except OSError:
        return 0.0
