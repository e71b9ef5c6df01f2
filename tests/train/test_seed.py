from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from indiseek_sc.train import isolated_seed


def states() -> list[object]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


def test_randomness_is_that_of_the_seed_and_the_rest_of_the_program_keeps_its_own():
    torch.manual_seed(5)
    before = states()
    with isolated_seed(0):
        first = torch.randn(4)
    assert states() == before
    expected = torch.randn(4)
    torch.manual_seed(5)
    with isolated_seed(0):
        again = torch.randn(4)
    assert torch.equal(first, again)
    assert torch.equal(torch.randn(4), expected)
    with isolated_seed(1):
        assert not torch.equal(torch.randn(4), first)


def test_errors_put_the_state_back_too():
    before = states()
    with pytest.raises(KeyError), isolated_seed(0):
        torch.randn(4)
        raise KeyError
    assert states() == before
