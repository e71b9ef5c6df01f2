"""Critics by name, or by what makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from indiseek_sc.losses._critics import CriticSum, IndependenceCritic, NoCritic
from indiseek_sc.losses._density_critics import FullGaussianCritic, GaussianCritic, LeaveOneOutCritic, MixtureCritic
from indiseek_sc.losses._kernel_terms import DistanceCorrelationCritic, HSICCritic, OrthogonalityCritic
from indiseek_sc.losses._network_critics import AdversarialCritic, ConcatenatedNCECritic, NCECritic

CriticFactory = Callable[[int, int], IndependenceCritic]
"""Makes a critic from ``n_specific`` and ``n_condition``: a class, a function, or a ``functools.partial``."""

Independence = str | CriticFactory | Sequence[str | CriticFactory] | Mapping[str, str | CriticFactory]
"""Names of critics joined by ``+``, what makes one, or several of these; a mapping gives them names of the user's."""

CRITICS: dict[str, CriticFactory] = {
    "gaussian": GaussianCritic,
    "gaussian_bounded": partial(GaussianCritic, bounded_variance=True),
    "gaussian_full": FullGaussianCritic,
    "mixture": MixtureCritic,
    "nce": NCECritic,
    "nce_concatenated": ConcatenatedNCECritic,
    "leave_one_out": LeaveOneOutCritic,
    "hsic": HSICCritic,
    "distance_correlation": DistanceCorrelationCritic,
    "adversarial": AdversarialCritic,
    "orthogonality": OrthogonalityCritic,
    "none": NoCritic,
}
"""What each name makes."""


def make_critic(independence: Independence, n_specific: int, n_condition: int) -> CriticSum:
    """Build the critics of a name such as ``"gaussian+nce"``, or by what makes them.

    Parameters
    ----------
    independence
        See :data:`Independence`; the names are those of :data:`CRITICS`.
    n_specific
        Columns of the specific representation.
    n_condition
        Columns of the condition.

    Raises
    ------
    ValueError
        If a name is unknown, given twice, or no word.
    TypeError
        If something makes no critic.
    """
    critics: dict[str, IndependenceCritic] = {}
    for given_name, factory in _read(independence):
        critic = factory(n_specific, n_condition)
        if not isinstance(critic, IndependenceCritic):
            raise TypeError(f"independence: {factory!r} must make an IndependenceCritic, but made {critic!r}.")
        name = given_name or critic.name or type(critic).__name__
        if not name.isidentifier():
            raise ValueError(f"independence: the name {name!r} must be of letters, digits and underscores.")
        if name in critics:
            raise ValueError(f"independence: {name!r} is there twice. Give a mapping to tell the two apart by name.")
        critics[name] = critic
    return CriticSum(critics)


def check_independence(independence: Independence) -> None:
    """Refuse what cannot make critics, or has no name by which a saved model could tell what it was made with.

    Raises
    ------
    ValueError
        If a name is unknown, or an object has none.
    TypeError
        If there is something else than names and callables.
    """
    for _, factory in _read(independence):
        name = _name_latent(factory)
        if "<" in name.partition("(")[0] or " at 0x" in name:
            raise ValueError(
                f"independence: {factory!r} cannot be saved with the model, since {name} is no name to find it by. Give a class or a "
                "function that stands at the top level of a module, or a functools.partial of one with plain options, in place of a "
                "lambda or a local definition."
            )


def describe_independence(independence: Independence) -> Any:
    """Return names as they are, and representation as ``module:name``, with the options of a ``functools.partial``; in lists and mappings too."""
    if isinstance(independence, str):
        return independence
    if isinstance(independence, Mapping):
        return {name: describe_independence(x) for name, x in independence.items()}
    if isinstance(independence, Sequence):
        return [describe_independence(x) for x in independence]
    return _name_latent(independence)


def is_named(description: Any) -> bool:
    """Whether what :func:`describe_independence` returned is of names alone, so that critics can be made of it."""
    if isinstance(description, dict):
        return all(map(is_named, description.values()))
    if isinstance(description, list):
        return all(map(is_named, description))
    return description is None or ":" not in description


def _name_latent(factory: CriticFactory) -> str:
    if isinstance(factory, partial):
        options = [*map(repr, factory.args), *(f"{name}={x!r}" for name, x in factory.keywords.items())]
        return f"{_name_latent(factory.func)}({', '.join(options)})"
    named = factory if hasattr(factory, "__qualname__") else type(factory)
    return f"{named.__module__}:{named.__qualname__}"


def _read(independence: Independence) -> list[tuple[str, CriticFactory]]:
    """List names, empty where the critic has its own, and what makes the critics."""
    if isinstance(independence, str):
        return [(name, _look_up(name, independence)) for name in independence.split("+")]
    if isinstance(independence, Mapping):
        return [
            (name, _look_up(x, x) if isinstance(x, str) else _require_factory(x)) for name, x in independence.items()
        ]
    if isinstance(independence, Sequence):
        return [
            pair for x in independence for pair in (_read(x) if isinstance(x, str) else [("", _require_factory(x))])
        ]
    return [("", _require_factory(independence))]


def _look_up(name: str, within: str) -> CriticFactory:
    if name not in CRITICS:
        raise ValueError(f"independence: unknown critic {name!r} in {within!r}. There are {', '.join(CRITICS)}.")
    return CRITICS[name]


def _require_factory(factory: object) -> CriticFactory:
    if isinstance(factory, IndependenceCritic):
        raise TypeError(
            f"independence: got a {type(factory).__name__} that is made already, but each modality needs its own. Give the class, or "
            "functools.partial(class, ...) with its options."
        )
    if not callable(factory):
        raise TypeError(
            f"independence must be names, or make critics from n_specific and n_condition, but {factory!r} does neither."
        )
    return factory
