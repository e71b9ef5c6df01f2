from __future__ import annotations

import math

import pytest
import torch

from indiseek_sc.nn import FeatureTransform, Recipe, build_transform, get_recipe


def test_library_size_normalisation_on_a_small_example():
    transform = FeatureTransform(Recipe(cell_step="library_size"), 3)
    transform.library_size.fill_(8.0)
    y = transform.normalize(torch.tensor([[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(y, torch.tensor([[math.log(3), math.log(7), 0.0], [0.0, 0.0, 0.0]]))


def test_centred_log_ratio_on_a_small_example():
    y = FeatureTransform(Recipe(cell_step="clr"), 2).normalize(torch.tensor([[0.0, math.e**2 - 1], [0.0, 0.0]]))
    torch.testing.assert_close(y, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))


def test_selected_genes_use_the_library_size_of_all_genes():
    transform = FeatureTransform(Recipe(cell_step="library_size"), 3, n_features=2)
    transform.library_size.fill_(10.0)
    transform.features.copy_(torch.tensor([0, 2]))
    torch.testing.assert_close(
        transform.normalize(torch.tensor([[1.0, 3.0, 1.0]])), torch.full((1, 2), math.log(1 + 10 / 5))
    )


def test_values_are_clipped_around_the_mean():
    transform = FeatureTransform(Recipe(max_value=2.0), 1)
    transform.center.fill_(100.0)
    transform.scale.fill_(1.0)
    assert transform(torch.tensor([[90.0], [101.0], [150.0]])).flatten().tolist() == [-2.0, 1.0, 2.0]


def test_projection_on_a_small_example():
    transform = FeatureTransform(Recipe(project=True), 2, n_components=1)
    transform.center.copy_(torch.tensor([1.0, 1.0]))
    transform.scale.copy_(torch.tensor([2.0, 1.0]))
    transform.components.copy_(torch.tensor([[3.0], [1.0]]))
    transform.offset.fill_(0.5)
    assert transform(torch.tensor([[2.0, 5.0]])).item() == 3 * 2 + 4 - 0.5


def test_a_transform_has_no_parameters():
    assert list(build_transform("rna", "counts", 10, n_cells=100).parameters()) == []


def test_gradients_propagate_to_raw_values():
    transform = FeatureTransform(Recipe(cell_step="clr"), 2)
    transform.center.zero_()
    transform.scale.fill_(1.0)
    x = torch.tensor([[1.0, 3.0]], requires_grad=True)
    transform(x)[0, 0].backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.5 / 2, -0.5 / 4]]))


@pytest.mark.parametrize(
    ("n_input", "n_cells", "n_top_genes", "expected"),
    [
        (1000, 6000, None, 50),
        (20, 6000, None, 19),
        (1000, 30, None, 29),
        (1000, 6000, 11, 10),
        (1, 6000, None, 1),
        (9, 1, None, 1),
        (9000, 6000, None, 50),
        (9000, 6000, 9000, 50),
    ],
)
def test_components_are_bounded_by_the_data(n_input: int, n_cells: int, n_top_genes: int | None, expected: int):
    transform = build_transform("rna", "counts", n_input, n_cells=n_cells, n_top_genes=n_top_genes)
    assert transform.n_output == expected
    assert transform.components.shape == (min(n_input, n_top_genes or 2000), expected)


def test_normalised_values_keep_all_genes_by_default():
    assert build_transform("rna", "normalized", 9000, n_cells=100).components.shape[0] == 9000
    assert build_transform("rna", "normalized", 9000, n_cells=100, n_top_genes=500).components.shape[0] == 500


def test_proteins_and_representations_keep_their_width():
    assert build_transform("adt", "counts", 192, n_cells=10).n_output == 192
    assert build_transform("rna", "representation", 30, n_cells=10, n_top_genes=5).n_output == 30


@pytest.mark.parametrize("options", [{"n_components": 0}, {"n_top_genes": -1}])
def test_sizes_below_one_are_rejected(options: dict[str, int]):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be at least 1"):
        build_transform("rna", "counts", 10, n_cells=10, **options)


def test_a_projection_requires_a_number_of_components():
    with pytest.raises(ValueError, match="n_components is needed"):
        FeatureTransform(Recipe(project=True), 3)


def test_recipes_describe_their_steps():
    assert str(get_recipe("rna", "counts")) == "library size, log1p, centring, weighting by signal, PCA"
    assert str(get_recipe("rna", "normalized")) == "centring, one scale for all, PCA"
    assert str(get_recipe("adt", "counts")) == "centred log-ratio per cell, centring, weighting by signal"
    assert str(Recipe()) == "scaling"
    assert str(get_recipe("adt", "representation")) == "centring, one scale for all"


def test_undo_change_returns_normalised_units():
    transform = FeatureTransform(Recipe(project=True), 4, n_components=2)
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(4, 2, generator=generator)).Q
    transform.center.zero_()
    transform.scale.copy_(torch.tensor([2.0, 1.0, 0.0, 4.0]))  # the third feature is constant
    transform.components.copy_(3 * axes)
    transform.offset.zero_()
    change = torch.tensor([[0.1, -0.2], [0.0, 0.3]])
    undone = transform.undo_change(change)
    expected = change @ torch.linalg.pinv(transform.components) / transform.scale
    kept = [0, 1, 3]
    torch.testing.assert_close(undone[:, kept], expected[:, kept])
    assert (undone[:, 2] == 0).all()


def test_undo_change_ignores_unused_components():
    transform = FeatureTransform(Recipe(project=True), 2, n_components=2)
    transform.scale.fill_(1.0)
    transform.components.copy_(torch.tensor([[0.5, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(transform.undo_change(torch.tensor([[1.0, 7.0]])), torch.tensor([[2.0, 0.0]]))
