from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import indiseek_sc as isk
from indiseek_sc.nn import ConditionalEncoderDecoder, PrincipalMap, RidgeMap, map_parts, regularized_cca


@pytest.fixture
def small_parts() -> Iterator[None]:
    with isk.settings.override(cells_at_once=32):
        yield


def draw(*sizes: int, n_cells: int = 201, seed: int = 0) -> list[Tensor]:
    """Draw correlated columns with means far from 0."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(n_cells, 3, generator=generator)
    return [
        3 + source @ torch.randn(3, n, generator=generator) + 0.5 * torch.randn(n_cells, n, generator=generator)
        for n in sizes
    ]


def test_map_parts_equals_the_map_of_all_cells(small_parts: None):
    x, y = draw(4, 2)
    for has_gradient in (True, False):
        with torch.set_grad_enabled(has_gradient):
            mapped = map_parts(lambda a, b: torch.cat([a, 2 * b], dim=1), x.requires_grad_(), y)
        assert torch.equal(mapped, torch.cat([x, 2 * y], dim=1))
        assert mapped.requires_grad == has_gradient


def test_closed_forms_do_not_depend_on_the_parts():
    x, y = draw(6, 4)
    train, validation = torch.randperm(201, generator=torch.Generator().manual_seed(1)).split([150, 51])

    def fit() -> list[Tensor]:
        ridge, principal = RidgeMap(6, 4), PrincipalMap(6, 3)
        ridge.fit(x, y)
        principal.fit(x)
        *maps, correlation = regularized_cca(x, y, train, validation, 3, refit=True)
        return [*ridge.buffers(), *principal.buffers(), *(part for linear in maps for part in linear), correlation]

    whole = fit()
    with isk.settings.override(cells_at_once=32):
        parts = fit()
    for part, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


def test_components_of_columns_that_are_computed_in_parts(small_parts: None):
    x, y = draw(4, 2)
    principal, expected = PrincipalMap(6, 3), PrincipalMap(6, 3)
    principal.fit(x, y, columns=lambda a, b: torch.cat([a, 2 * b], dim=1))
    expected.fit(torch.cat([x, 2 * y], dim=1))
    for part, other in zip(principal.buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(part, other, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_representations_do_not_depend_on_the_parts():
    x, condition = draw(6, 2)
    encoder_decoder = ConditionalEncoderDecoder(6, 2, 4).eval()

    def compute() -> dict[str, Tensor]:
        encoder_decoder.fit(x, condition, 2)
        encoder_decoder.freeze_start(x, condition)
        prepared = encoder_decoder.prepare(x, condition)
        encoder_decoder.freeze_statistics(prepared, condition)
        latent = encoder_decoder(x, condition)
        return {**prepared, "latent": latent, "decoded": encoder_decoder.decode(latent, condition)}

    whole = compute()
    with isk.settings.override(cells_at_once=32):
        parts = compute()
    for name, values in parts.items():
        torch.testing.assert_close(values, whole[name], atol=1e-4, rtol=1e-4)
