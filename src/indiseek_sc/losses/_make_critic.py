"""Construction of critics from names, classes or functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from indiseek_sc.losses._critics import CriticSum, IndependenceCritic, NoCritic
from indiseek_sc.losses._density_critics import FullGaussianCritic, GaussianCritic, LeaveOneOutCritic, MixtureCritic
from indiseek_sc.losses._kernel_terms import DistanceCorrelationCritic, HSICCritic, OrthogonalityCritic
from indiseek_sc.losses._network_critics import AdversarialCritic, ConcatenatedNCECritic, NCECritic

CriticFactory = Callable[[int, int], IndependenceCritic]
"""Callable that returns a critic, given ``n_specific`` and ``n_condition``.

It may be a class, a function or a ``functools.partial``.
"""

Independence = str | CriticFactory | Sequence[str | CriticFactory] | Mapping[str, str | CriticFactory]
"""Specification of critics: names joined by ``+``, a :data:`CriticFactory`, or several of these.

The keys of a mapping are used as the names of the critics.
"""

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
"""The built-in critics, by name."""


def make_critic(independence: Independence, n_specific: int, n_condition: int) -> CriticSum:
    """Build critics from a specification such as ``"gaussian+nce"``.

    Parameters
    ----------
    independence
        Specification of the critics, see :data:`Independence`; names are keys of :data:`CRITICS`.
    n_specific
        Dimensions of the specific representation.
    n_condition
        Dimensions of the condition.

    Returns
    -------
    The sum of the critics.

    Raises
    ------
    ValueError
        If a name is unknown, used twice, or not an identifier.
    TypeError
        If an entry is neither a name nor callable, or does not return an
        :class:`IndependenceCritic`.

    Examples
    --------
    >>> critics = isk.losses.make_critic("gaussian+nce", n_specific=3, n_condition=2)
    >>> list(critics.critics)
    ['gaussian', 'nce']
    """
    critics: dict[str, IndependenceCritic] = {}
    for given_name, factory in _parse(independence):
        critic = factory(n_specific, n_condition)
        if not isinstance(critic, IndependenceCritic):
            raise TypeError(f"independence: {factory!r} must make an IndependenceCritic, but made {critic!r}.")
        name = given_name or critic.name or type(critic).__name__
        if not name.isidentifier():
            raise ValueError(
                f"independence: the name {name!r} must consist of letters, digits and underscores, and not begin with a digit."
            )
        if name in critics:
            raise ValueError(
                f"independence: the name {name!r} occurs twice. Give a mapping with a different name for each critic."
            )
        critics[name] = critic
    return CriticSum(critics)


def check_independence(independence: Independence) -> None:
    """Check that critics can be built from a specification and that a saved model can name them.

    Parameters
    ----------
    independence
        Specification of the critics, see :data:`Independence`.

    Raises
    ------
    ValueError
        If a name is unknown, or an object cannot be imported by name.
    TypeError
        If an entry is neither a name nor callable.

    Examples
    --------
    >>> isk.losses.check_independence("gaussian+nce")
    >>> isk.losses.check_independence("mutual_information")
    Traceback (most recent call last):
        ...
    ValueError: independence: unknown critic 'mutual_information' in 'mutual_information'. ...
    """
    for _, factory in _parse(independence):
        name = _qualify_name(factory)
        if "<" in name.partition("(")[0] or " at 0x" in name:
            raise ValueError(
                f"independence: {factory!r} cannot be saved with the model, since {name} cannot be imported. Give a class "
                "or a function defined at the top level of a module, or a functools.partial of one with plain options, "
                "instead of a lambda or a local definition."
            )


def describe_independence(independence: Independence) -> Any:
    """Return a specification of critics in a form that can be saved as JSON.

    Names stay as they are. Classes and functions become ``"module:name"``, followed by the options
    of a ``functools.partial``. Sequences become lists and mappings become dictionaries.

    Parameters
    ----------
    independence
        Specification of the critics, see :data:`Independence`.

    Returns
    -------
    A string, or a list or dictionary of strings.

    Examples
    --------
    >>> isk.losses.describe_independence({"first": "gaussian", "second": torch.nn.Identity})
    {'first': 'gaussian', 'second': 'torch.nn.modules.linear:Identity'}
    """
    if isinstance(independence, str):
        return independence
    if isinstance(independence, Mapping):
        return {name: describe_independence(x) for name, x in independence.items()}
    if isinstance(independence, Sequence):
        return [describe_independence(x) for x in independence]
    return _qualify_name(independence)


def is_named(description: Any) -> bool:
    """Return whether a description contains only names of built-in critics.

    Critics can be built again from such a description.

    Parameters
    ----------
    description
        Return value of :func:`describe_independence`, or None.

    Examples
    --------
    >>> isk.losses.is_named("gaussian+nce")
    True
    >>> isk.losses.is_named(["gaussian", "my_package.critics:MyCritic"])
    False
    """
    if isinstance(description, dict):
        return all(map(is_named, description.values()))
    if isinstance(description, list):
        return all(map(is_named, description))
    return description is None or ":" not in description


def _qualify_name(factory: CriticFactory) -> str:
    """Return ``module:name`` of a class or function, and the options of a ``functools.partial``."""
    if isinstance(factory, partial):
        options = [*map(repr, factory.args), *(f"{name}={x!r}" for name, x in factory.keywords.items())]
        return f"{_qualify_name(factory.func)}({', '.join(options)})"
    named = factory if hasattr(factory, "__qualname__") else type(factory)
    return f"{named.__module__}:{named.__qualname__}"


def _parse(independence: Independence) -> list[tuple[str, CriticFactory]]:
    """Return the name (empty if not given) and the factory of each critic."""
    if isinstance(independence, str):
        return [(name, _look_up(name, independence)) for name in independence.split("+")]
    if isinstance(independence, Mapping):
        return [
            (name, _look_up(x, x) if isinstance(x, str) else _require_factory(x)) for name, x in independence.items()
        ]
    if isinstance(independence, Sequence):
        return [
            pair for x in independence for pair in (_parse(x) if isinstance(x, str) else [("", _require_factory(x))])
        ]
    return [("", _require_factory(independence))]


def _look_up(name: str, within: str) -> CriticFactory:
    """Return the built-in critic called ``name`` in the specification ``within``."""
    if name not in CRITICS:
        raise ValueError(
            f"independence: unknown critic {name!r} in {within!r}. Available critics: {', '.join(CRITICS)}."
        )
    return CRITICS[name]


def _require_factory(factory: object) -> CriticFactory:
    """Return an object that is callable, and raise a TypeError if it is not."""
    if isinstance(factory, IndependenceCritic):
        raise TypeError(
            f"independence: got an instance of {type(factory).__name__}, but each modality needs its own critic. Give the "
            "class, or functools.partial(class, ...) with its options."
        )
    if not callable(factory):
        raise TypeError(
            "independence must be names of critics or callables that take n_specific and n_condition and return a critic, "
            f"but contains {factory!r}."
        )
    return factory
