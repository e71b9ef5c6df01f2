from __future__ import annotations

import pytest
import torch

from indiseek_sc.nn import CrossPredictor


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return CrossPredictor(3, 5, 16)


def test_a_code_is_read_free_of_scale(predictor):
    code = torch.randn(500, 3)
    predictor.standardize.momentum = 1.0
    predictor.train()
    predictor(code)
    plain = predictor.eval()(code)
    predictor.train()
    predictor(1000 * code)
    torch.testing.assert_close(predictor.eval()(1000 * code), plain, rtol=1e-3, atol=1e-3)


def test_there_is_noise_in_training_alone(predictor):
    code = torch.randn(50, 3)
    predictor.network = torch.nn.Identity()
    predictor.train()
    difference = predictor(code) - predictor(code)
    assert 0.1 < difference.std() < 0.2  # two draws of 0.1 each
    predictor.eval()
    torch.testing.assert_close(predictor(code), predictor(code), rtol=0, atol=0)
