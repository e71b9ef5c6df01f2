"""Settings of the package."""

from __future__ import annotations

import pytest

import indiseek_sc as isk


def test_settings_are_restored_after_a_context_even_after_an_error():
    before = (isk.settings.cells_at_once, isk.settings.values_at_once)
    with isk.settings.override(cells_at_once=5, values_at_once=7):
        assert (isk.settings.cells_at_once, isk.settings.values_at_once) == (5, 7)
    with pytest.raises(KeyError), isk.settings.override(cells_at_once=5):
        raise KeyError
    assert (isk.settings.cells_at_once, isk.settings.values_at_once) == before


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "many", None, True])
def test_invalid_values_are_rejected_and_change_nothing(wrong):
    before = isk.settings.cells_at_once
    with pytest.raises(ValueError, match="cells_at_once must"):
        isk.settings.cells_at_once = wrong
    with (
        pytest.raises(ValueError, match="cells_at_once must"),
        isk.settings.override(values_at_once=3, cells_at_once=wrong),
    ):
        pass
    assert isk.settings.cells_at_once == before
    assert isk.settings.values_at_once > 3


def test_settings_cannot_be_deleted():
    with pytest.raises(AttributeError, match="cells_at_once cannot be deleted"):
        del isk.settings.cells_at_once


def test_unknown_settings_are_rejected_with_the_closest_name():
    with pytest.raises(AttributeError, match="no setting 'cell_at_once'.*Did you mean 'cells_at_once'"):
        isk.settings.cell_at_once = 3
