from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from indiseek_sc.nn import RidgeMap


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_it_is_the_ridge_regression_of_sklearn(ridge):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4)) * [1, 2, 3, 4] + 7
    y = x @ rng.standard_normal((4, 3)) + rng.standard_normal((50, 3)) - 2
    linear = RidgeMap(4, 3).double()
    linear.fit(torch.from_numpy(x), torch.from_numpy(y), ridge=ridge)
    expected = Ridge(alpha=ridge).fit(x, y)
    np.testing.assert_allclose(linear(torch.from_numpy(x)), expected.predict(x), atol=1e-9)
    np.testing.assert_allclose(linear.weight, expected.coef_.T, atol=1e-9)


def test_constant_and_repeated_columns_stay_finite():
    x = torch.randn(20, 1).repeat(1, 3)
    x[:, 1] = 5.0
    linear = RidgeMap(3, 1)
    linear.fit(x, 2 * x[:, :1], ridge=1e-3)
    torch.testing.assert_close(linear(x), 2 * x[:, :1], atol=1e-3, rtol=0)
    assert linear.weight[1] == 0


def test_it_starts_as_zero_and_has_nothing_to_train():
    linear = RidgeMap(3, 2)
    assert (linear(torch.randn(4, 3)) == 0).all()
    assert list(linear.parameters()) == []
    assert set(linear.state_dict()) == {"weight", "bias"}
