"""A student of a diffusion model: the same network, taught to jump along the model's own paths.

It is another row of choices: `Consistency` is minimized, `ConsistencyStep` draws, the target is the
teacher's where that is well conditioned (`Bounded`). It begins with the teacher's weights and keeps
a copy of them that it learns from, so it needs no other folder: not to go on, not to draw.
"""

from __future__ import annotations

import copy

from undiffuse.diffusion import ConsistencyStep, Jumps
from undiffuse.diffusion.objectives import Consistency, LogNormalTimes
from undiffuse.diffusion.target import Bounded
from undiffuse.errors import InputError
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion

ADVERSARIAL = 0.2  # of a run, its last, in which a student of images plays against a discriminator
_OWN, _TEACHER = "denoiser.", "denoiser.teacher."


def student_of(
    teacher: GenerativeModel, *, called: str, steps: int = 2, guidance: float = 1.0
) -> Diffusion:
    """Return a model to train on the teacher's data, which draws in so many evaluations.

    Args:
        teacher: a trained diffusion model.
        called: what the student calls it: its run.
        steps: evaluations of the network for a sample.
        guidance: the scale at which the teacher is guided by classes; 1: not at all.

    Raises:
        InputError: for a model that has no paths from noise to data, or none to guide.
    """
    if not isinstance(teacher, Diffusion) or teacher.only_own:
        what = "a student itself" if getattr(teacher, "teacher", None) else teacher.called
        raise InputError(
            f"{called}: is {what}, and there are no paths from noise to data to distill; distill a "
            "diffusion model of several noise levels, such as one of preset edm."
        )
    conditional = bool(teacher.classes) or teacher.kept is not None
    if guidance != 1 and not (conditional and teacher.drop_condition > 0):
        raise InputError(
            f"guidance {guidance:g}: {called} was trained without labels, or never without them, "
            "so there is nothing to guide it by; leave it out."
        )
    sigma_data = teacher.sigma_data or 1.0
    images = len(teacher.shape or ()) == 3 and teacher.kept is None
    student = Diffusion(
        schedule=copy.deepcopy(teacher.schedule),
        target=Bounded(teacher.target, sigma_data),
        objective=Consistency(
            times=LogNormalTimes(mean=0.0, std=1.6, sigma_data=sigma_data),
            guidance=float(guidance),
            variance=teacher.objective.learned_variance,
            adversarial=ADVERSARIAL if images and guidance == 1 else 0.0,
        ),
        step=ConsistencyStep(),
        grid=Jumps(sigma_data=sigma_data),
        steps=steps,
        network=copy.deepcopy(teacher.network),
        condition=teacher.condition,
        sigma_data=sigma_data,
        clip=teacher.clip,
        drop_condition=teacher.drop_condition,
        gaps=0.0,
        linear=teacher.linear or 0,
        shape=teacher.shape,
        data_range=teacher.data_range,
        class_shares=teacher.class_shares,
        condition_widths=teacher.condition_widths,
        condition_rows=teacher.condition_rows,
        teacher=called,
    )
    weights = teacher.state_dict()
    names = [name for name in weights if name.startswith(_OWN)]
    weights |= {name.replace(_OWN, _TEACHER, 1): weights[name] for name in names}
    student.load_state_dict(student.state_dict() | weights)
    return student
