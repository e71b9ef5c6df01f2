from __future__ import annotations

import numpy as np
import pytest

from indiseek_sc.metrics import batch_mixing


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two labels: separate batches in one, mixed batches of unequal size in the other."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["apart", "mixed"], 200)
    batches = rng.choice(["a", "b"], p=[0.75, 0.25], size=400)
    latent = rng.normal(size=(400, 3)) + 100 * (labels == "mixed")[:, None]
    latent[(labels == "apart") & (batches == "a")] += 20
    return latent, labels, batches


def test_separate_and_mixed_batches(cells):
    table = batch_mixing(*cells).set_index("label")
    assert table.loc["apart", "same_batch"] == table.loc["apart", "excess"] == 1
    assert table.loc["apart", "p"] == pytest.approx(1 / 201)
    assert abs(table.loc["mixed", "excess"]) < 0.06
    assert table.loc["mixed", "p_adjusted"] > 0.05
    # The expectation is the probability that another cell of the label has the same batch.
    _, labels, batches = cells
    share = (batches[labels == "mixed"] == "a").mean()
    assert table.loc["mixed", "by_chance"] == pytest.approx(share**2 + (1 - share) ** 2, abs=0.01)


def test_p_values_of_mixed_batches_are_uniform():
    rng = np.random.default_rng(1)
    latent, labels = rng.normal(size=(1800, 2)), np.repeat(np.arange(30), 60)
    p = batch_mixing(latent, labels, rng.choice(["a", "b"], size=1800))["p"]
    assert 0.3 < p.mean() < 0.7


def test_uninformative_labels_are_left_out(cells):
    latent, labels, batches = cells
    few = np.where(np.arange(400) < 40, "few", labels)
    assert list(batch_mixing(latent, few, batches)["label"]) == ["apart", "mixed"]
    of_one = np.where(labels == "apart", "a", batches)
    assert list(batch_mixing(latent, labels, of_one)["label"]) == ["mixed"]
    assert len(batch_mixing(latent, labels, np.full(400, "a"))) == 0
    missing = np.where(np.arange(400) < 100, None, batches)
    assert batch_mixing(latent, labels, missing).set_index("label").loc["apart", "n_cells"] == 100


def test_invalid_arguments_are_rejected(cells):
    latent, labels, batches = cells
    with pytest.raises(ValueError, match="batches has 399 entries"):
        batch_mixing(latent, labels, batches[1:])
    with pytest.raises(ValueError, match="n_permutations must be at least 1"):
        batch_mixing(latent, labels, batches, n_permutations=0)
