from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA

from indiseek_sc.nn import PrincipalMap


def draw(n_cells: int = 100) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.standard_normal((n_cells, 5)) * [5, 4, 3, 2, 1] @ rng.standard_normal((5, 5)) + 3)


def fit(x: torch.Tensor, n_components: int, n_largest: int | None = None) -> PrincipalMap:
    principal = PrincipalMap(x.shape[1], n_components).double()
    principal.fit(x, n_largest)
    return principal


def test_it_is_pca_up_to_signs():
    x = draw()
    principal = fit(x, 3)
    pca = PCA(3).fit(x.numpy())
    signs = np.sign((principal.components.numpy() * pca.components_.T).sum(axis=0))
    np.testing.assert_allclose(principal.components, pca.components_.T * signs, atol=1e-10)
    np.testing.assert_allclose(principal(x), pca.transform(x.numpy()) * signs, atol=1e-9)
    np.testing.assert_allclose(
        principal.inverse(principal(x)), pca.inverse_transform(pca.transform(x.numpy())), atol=1e-9
    )


def test_the_largest_loading_of_each_component_is_positive():
    x = draw()
    principal = fit(x, 5)
    largest = principal.components.abs().argmax(dim=0)
    assert (principal.components.gather(0, largest[None]) > 0).all()
    torch.testing.assert_close(fit(-x, 5).components, principal.components)


def test_at_most_so_many_components():
    x = draw()
    principal = fit(x, 4, n_largest=2)
    torch.testing.assert_close(principal.components[:, :2], fit(x, 2).components)
    assert (principal.components[:, 2:] == 0).all()
    assert (principal(x)[:, 2:] == 0).all()
    torch.testing.assert_close(fit(x, 4, n_largest=9).components, fit(x, 4).components)


def test_components_that_data_do_not_have_are_zero():
    x = draw()[:, [0, 0, 1, 1, 1]]
    principal = fit(x, 5)
    assert (principal.components[:, 2:] == 0).all()
    torch.testing.assert_close(principal.inverse(principal(x)), x)
    few = fit(draw(3), 5)
    assert (few.components.norm(dim=0) > 0).tolist() == [True, True, False, False, False]


def test_constant_data_have_no_component():
    x = torch.full((10, 3), 2.0, dtype=torch.float64)
    principal = fit(x, 2)
    assert (principal(x) == 0).all()
    torch.testing.assert_close(principal.inverse(principal(x)), x)
