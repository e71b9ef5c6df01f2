"""A word about critics whose bounds say nothing."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

TOLERANCE = 0.05
"""How far below 0, in nats, a bound may be by chance."""

_BOUND, _LOSS = "_validation_bound", "_validation_loss"


def find_negative_bounds(history: Mapping[str, pd.DataFrame], *, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Find critics whose bound on validation cells stayed negative.

    The mean of a bound over all pairs of held-out cells is 0 where codes and conditions are independent, whatever the critic
    has learnt, but for chance. Clearly below 0, the encoder has learnt to mislead the critic, or the critic has learnt
    its training cells by heart.

    Parameters
    ----------
    history
        Data frames of one column, by ``<stage>/<role>_<critic>_validation_bound`` and ``_validation_loss``. Terms without a
        loss have nothing to learn, and are left out.
    tolerance
        How far below 0 the mean of the last half of the epochs must be, in nats.

    Returns
    -------
    That mean, by ``<stage>/<role>_<critic>``.
    """
    names = [key.removesuffix(_BOUND) for key in history if key.endswith(_BOUND)]
    means = {}
    for name in names:
        if f"{name}{_LOSS}" in history:
            values = history[f"{name}{_BOUND}"].iloc[:, 0].astype(float)
            means[name] = float(values.iloc[len(values) // 2 :].mean())
    return {name: mean for name, mean in means.items() if mean < -tolerance}


def warn_of_negative_bounds(history: Mapping[str, pd.DataFrame]) -> None:
    """Warn of critics that :func:`find_negative_bounds` finds, in one warning for all."""
    negative = find_negative_bounds(history)
    if not negative:
        return
    listed = ", ".join(f"{name.rpartition('/')[2].replace('_', ' ')} {mean:.2f}" for name, mean in negative.items())
    warnings.warn(
        f"On validation cells the bounds of critics stayed negative ({listed} nats, mean of the last half of the epochs). They are no "
        "bounds then: the critics lag behind the encoders, or have learnt their training cells by heart, and say nothing of "
        "independence. Try more steps or a larger step size for critics (plan_kwargs: n_critic_steps, critic_learning_rate), a "
        "larger lambda_, or other critics (independence), and judge by model.audit().",
        UserWarning,
        stacklevel=4,
    )
