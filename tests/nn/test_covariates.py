"""Design matrices of covariates, compared with explicit indicators and standard scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from indiseek_sc.nn import CovariateDesign

BATCH = torch.tensor([0.0, 1, 2, 0, 1, 0])
DONOR = torch.tensor([1.0, 0, 1, 0, 1, 1])
AGE = torch.tensor([10.0, 20, 30, 40, 50, 70])


def make_design(**kwargs) -> CovariateDesign:
    design = CovariateDesign((3, 2), 1, **kwargs)
    design.fit(torch.stack([BATCH, DONOR, AGE], dim=1))
    return design


def test_indicators_and_standard_scores():
    found = make_design()(torch.stack([BATCH, DONOR, AGE], dim=1)).numpy()
    np.testing.assert_array_equal(found[:, :3], np.eye(3)[BATCH.int()])
    np.testing.assert_array_equal(found[:, 3:5], np.eye(2)[DONOR.int()])
    np.testing.assert_allclose(found[:, 5], (AGE - AGE.mean()) / AGE.std(correction=0), atol=1e-6)


def test_a_category_of_one_level_has_no_column():
    design = CovariateDesign((1, 1), 0)
    assert design(torch.zeros(4, 2)).shape == (4, 0)
    assert design.learned(torch.zeros(4, 0)).shape == (4, 0)


def test_average_covariates_are_the_means_of_training_cells():
    expected = [3 / 6, 2 / 6, 1 / 6, 2 / 6, 4 / 6, 0]
    np.testing.assert_allclose(make_design().average(2).numpy(), [expected] * 2, atol=1e-6)


def test_cells_of_an_added_batch_have_the_mean_batch_and_their_own_other_covariates():
    design = make_design(n_added=2)
    found = design(torch.tensor([[4.0, 1, 70], [1, 0, 10]]))
    np.testing.assert_array_equal(found[:, 6:], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(found[0, :3], 0)
    learned = design.learned(found)
    np.testing.assert_allclose(learned[0, :5], [3 / 6, 2 / 6, 1 / 6, 0, 1], atol=1e-6)
    assert torch.equal(learned[0, 5], found[0, 5])
    assert torch.equal(learned[1], found[1, :6])


def test_a_single_batch_has_only_columns_for_added_batches():
    design = CovariateDesign((1,), 0, n_added=1)
    assert torch.equal(design(torch.tensor([[0.0], [1.0]])), torch.tensor([[0.0], [1.0]]))
    assert design.learned(torch.ones(2, 1)).shape == (2, 0)


def test_cells_match_if_all_their_categories_match():
    found = make_design().find_same(make_design()(torch.stack([BATCH, DONOR, AGE], dim=1)))
    expected = [[BATCH[i] == BATCH[j] and DONOR[i] == DONOR[j] for j in range(6)] for i in range(6)]
    assert torch.equal(found, torch.tensor(expected))
    assert CovariateDesign((1,), 1).find_same(torch.zeros(3, 1)).all()


@pytest.mark.parametrize("shape", [(6, 4), (2, 6, 4)])
def test_centred_offsets_have_mean_zero_over_training_cells_in_each_category(shape):
    design, offsets = make_design(), torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    columns = design(torch.stack([BATCH, DONOR, AGE], dim=1))
    centered = design.center(offsets)
    for some in (slice(0, 3), slice(3, 5)):
        mean = (columns[:, some] @ centered[..., some, :]).mean(dim=-2)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-6, rtol=0)
        apart = offsets[..., some, :] - centered[..., some, :]
        torch.testing.assert_close(apart, apart[..., :1, :].expand_as(apart))
    assert torch.equal(centered[..., 5, :], offsets[..., 5, :])
