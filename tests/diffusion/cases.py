"""Every part in every registry, ready made: a new part is held to the laws by being registered."""

import torch

from undiffuse.diffusion import (
    GRIDS,
    OBJECTIVES,
    SCHEDULES,
    TARGETS,
    TIMES,
    WEIGHTINGS,
)


def instances(registry):
    """What the parts of a registry show of themselves, by kind, and kind_name for more than one."""
    return {
        f"{kind}_{name}" if name else kind: part
        for kind, family in registry.items()
        for name, part in family.examples().items()
    }


SCHEDULE_CASES = instances(SCHEDULES)
TARGET_CASES = instances(TARGETS)
GRID_CASES = instances(GRIDS)
WEIGHTING_CASES = instances(WEIGHTINGS)
TIME_CASES = instances(TIMES)
OBJECTIVE_CASES = instances(OBJECTIVES)


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def has_signal_at_the_end(schedule) -> bool:
    return bool(schedule(times(1.0))[0] > 0)
