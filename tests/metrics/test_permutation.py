from __future__ import annotations

import numpy as np
import pytest

from indiseek_sc.metrics import _permutation
from indiseek_sc.metrics._permutation import permutation_p_value


def draw(seed, n_cells=60):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(n_cells, 2)), rng.normal(size=(n_cells, 2))


def reference(predictions, truth, orders):
    """Loop by loop: the best prediction's sum of correlations, for the true pairing and each order."""

    def agreement(order):
        return max(sum(np.corrcoef(p[:, j], truth[order, j])[0, 1] for j in range(truth.shape[1])) for p in predictions)

    observed = agreement(np.arange(len(truth)))
    return (1 + sum(agreement(order) >= observed for order in orders)) / (1 + len(orders))


def test_equals_a_slow_reference():
    _, predicted, truth = draw(0)
    predictions = [predicted + 0.3 * truth, predicted]
    rng = np.random.default_rng(1)
    orders = [np.argsort(rng.random(60)) for _ in range(99)]
    value = permutation_p_value(predictions, truth, np.random.default_rng(1), n_permutations=99)
    assert value == reference(predictions, truth, orders)


def test_is_uniform_where_there_is_nothing_to_find():
    """Exact: the chance of a value of at most alpha is at most alpha, also with the best of two predictions."""
    values = []
    for seed in range(400):
        rng, predicted, truth = draw(seed, 30)
        values.append(permutation_p_value([predicted, predicted**2], truth, rng, n_permutations=39))
    values = np.array(values)
    for alpha in (0.05, 0.25, 0.5):
        assert abs((values <= alpha).mean() - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / 400)


def test_a_weak_dependence_is_found_in_many_cells():
    rng, predicted, truth = draw(0, 4000)
    assert permutation_p_value([predicted + 0.1 * truth], truth, rng) == 1 / 1000


def test_within_groups_what_the_group_explains_is_no_dependence():
    rng, predicted, truth = draw(0, 300)
    group = np.repeat([0, 1, 2], 100)[rng.permutation(300)]
    predicted, truth = predicted + 3 * group[:, None], truth + 3 * group[:, None]
    assert permutation_p_value([predicted], truth, rng, n_permutations=199) == 1 / 200
    assert permutation_p_value([predicted], truth, rng, group, n_permutations=199) > 0.05
    linked = predicted + 0.5 * truth
    assert permutation_p_value([linked], truth, rng, group, n_permutations=199) == 1 / 200


def test_constant_predictions_and_single_pairs_say_nothing():
    rng, _, truth = draw(0)
    assert permutation_p_value([np.ones((60, 2))], truth, rng, n_permutations=19) == 1
    # Every cell a group of its own: only the true pairing is left.
    assert permutation_p_value([truth], truth, rng, np.arange(60), n_permutations=19) == 1


def test_many_cells_are_drawn_from(monkeypatch):
    monkeypatch.setattr(_permutation, "_MOST_CELLS", 50)
    rng, predicted, truth = draw(0, 4000)
    groups = np.arange(4000) % 2
    for given in (None, groups):
        assert permutation_p_value([predicted + 0.1 * truth], truth, rng, given, n_permutations=99) > 0.01
        assert permutation_p_value([predicted + 9 * truth], truth, rng, given, n_permutations=99) == 0.01


@pytest.mark.parametrize("seed", [0, 1])
def test_seed_decides(seed):
    _, predicted, truth = draw(5)
    values = [permutation_p_value([predicted], truth, np.random.default_rng(s)) for s in (seed, seed, seed + 2)]
    assert values[0] == values[1] != values[2]
