from __future__ import annotations

import numpy as np
import pytest

from indiseek_sc.metrics import factor_recovery

TRAIN, TEST = np.arange(600), np.arange(600, 1600)


@pytest.fixture
def factors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1600, 3))


def test_what_is_held_what_is_not_and_what_is_noisy(factors: np.ndarray) -> None:
    code = factors[:, :2] @ np.array([[1.0, 2.0], [-1.0, 1.0]])
    noisy = factors[:, 0] + np.random.default_rng(1).normal(size=1600)
    table = factor_recovery(code, {"s": factors, "noisy": noisy}, TRAIN, TEST).set_index("factor")["r2"]
    assert table.index.tolist() == ["s_0", "s_1", "s_2", "noisy"]
    assert table[["s_0", "s_1"]].min() > 0.99
    assert abs(table["s_2"]) < 0.03
    assert table["noisy"] == pytest.approx(0.5, abs=0.05)


def test_what_is_hidden_behind_a_sign_is_read_with_it(factors: np.ndarray) -> None:
    s, p = np.sign(factors[:, :1]), factors[:, 1:2]
    alone = factor_recovery(p * s, {"p": p}, TRAIN, TEST)["r2"][0]
    together = factor_recovery(p * s, {"p": p}, TRAIN, TEST, given=s)["r2"][0]
    assert alone < 0.02
    assert together > 0.95


def test_a_constant_factor_has_no_figure(factors: np.ndarray) -> None:
    assert np.isnan(factor_recovery(factors, {"one": np.ones(1600)}, TRAIN, TEST)["r2"][0])


def test_errors(factors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="factors is empty"):
        factor_recovery(factors, {}, TRAIN, TEST)
    with pytest.raises(ValueError, match=r"factors\['s'\] has 5 rows"):
        factor_recovery(factors, {"s": factors[:5]}, TRAIN, TEST)
    with pytest.raises(ValueError, match="given has 5 rows"):
        factor_recovery(factors, {"s": factors}, TRAIN, TEST, given=factors[:5])
    with pytest.raises(ValueError, match="train and test share rows 0"):
        factor_recovery(factors, {"s": factors}, TRAIN, TRAIN)
