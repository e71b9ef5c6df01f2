"""Modules of one kind, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

if TYPE_CHECKING:
    from collections.abc import ItemsView, Mapping, ValuesView

Name = TypeVar("Name", bound=str)
AnyModule = TypeVar("AnyModule", bound=nn.Module, covariant=True)


class NamedModules(nn.ModuleDict, Generic[Name, AnyModule]):
    """A :class:`torch.nn.ModuleDict` of which is known what its names and its modules are.

    Parameters
    ----------
    modules
        The modules, such as one for each role.
    """

    def __init__(self, modules: Mapping[Name, AnyModule]) -> None:
        super().__init__({str(name): module for name, module in modules.items()})

    if TYPE_CHECKING:

        def __getitem__(self, name: Name) -> AnyModule: ...  # type: ignore[override]

        def items(self) -> ItemsView[Name, AnyModule]: ...

        def values(self) -> ValuesView[AnyModule]: ...
