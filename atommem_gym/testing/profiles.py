"""Numbers of examples relative to the loaded Hypothesis profile, so that one switch scales all properties."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

_ORDINARY = 100
"""Examples of an ordinary property: Hypothesis's default, and that of the profile ``ci``."""


def budget(examples: int, *, steps: int | None = None) -> settings:
    """Settings of a property that runs ``examples`` examples where an ordinary one runs 100.

    A profile with 10,000 examples runs a hundred times as many of every property. There is no deadline, because times
    on a shared machine vary. Failures are shrunk but not explained, which would take minutes.

    Args:
        examples: Number of examples in a profile of 100; at least 1 runs in every profile.
        steps: For a state machine, the largest number of steps of a run; ``None`` for the profile's.
    """
    scaled = max(1, examples * settings().max_examples // _ORDINARY)
    unchecked = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
    return settings(
        max_examples=scaled,
        stateful_step_count=settings().stateful_step_count if steps is None else steps,
        deadline=None,
        phases=[phase for phase in settings().phases if phase is not Phase.explain],
        suppress_health_check=unchecked,
    )
