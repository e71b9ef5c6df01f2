from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from indiseek_sc import pl
from indiseek_sc.pl._style import ROLE_COLORS


def legend_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_stages_are_rows_and_quantities_are_panels(recorded: dict[str, pd.DataFrame]) -> None:
    axes = pl.history(recorded)
    assert axes.shape == (3, 4)
    assert [ax.get_ylabel() for ax in axes[0]] == ["loss", "InfoNCE", "correlation", "prediction"]
    assert [ax.get_ylabel() for ax in axes[1] if ax] == ["bound of a critic (nats)", "critic loss", "reconstruction"]
    assert [legend_of(ax) for ax in axes[0]] == [["training", "validation"], *[["validation"]] * 3]
    assert [legend_of(ax) for ax in axes[2] if ax] == [["bound", "Gaussian", "NCE"], [], []]
    assert [row[0].get_title(loc="left") for row in axes] == [
        "Shared representations\nkept: epoch 6 (dotted)",
        "Specific representation, RNA",
        "Specific representation, protein",
    ]
    axes[0, 0].figure.draw_without_rendering()
    rows = {round(ax.get_window_extent().y0) for ax in axes[0]}
    assert len(rows) == 2  # at most three panels in a row


def test_curves_show_the_recorded_values(recorded: dict[str, pd.DataFrame]) -> None:
    axes = pl.history(recorded)
    for ax, names in [
        (axes[0, 0], ["train_loss", "validation_loss"]),
        (axes[1, 0], ["bound", "gaussian_bound", "nce_bound"]),
    ]:
        stage = "shared" if ax is axes[0, 0] else "specific_rna"
        for line, name in zip(ax.lines, names, strict=False):
            expected = recorded[f"{stage}/{name}"]
            np.testing.assert_array_equal(line.get_xdata(), expected.index)
            np.testing.assert_array_equal(line.get_ydata(), expected.iloc[:, 0])
    train, validation, best = axes[0, 0].lines
    assert (train.get_linestyle(), validation.get_linestyle(), best.get_linestyle()) == ("--", "-", ":")
    assert list(best.get_xdata()) == [6, 6]
    assert len(axes[1, 0].lines) == 3  # no best epoch was recorded


def test_training_and_validation_curves_of_a_modality_share_its_colour() -> None:
    names = [f"{role}_{split}_loss" for role in ("rna", "adt") for split in ("train", "validation")]
    ((ax,),) = pl.history({f"decoder/{name}": pd.DataFrame({"x": [2.0, 1.0]}) for name in names})
    colors = [line.get_color() for line in ax.lines]
    assert colors == [to_rgb(ROLE_COLORS[role]) for role in ("rna", "rna", "adt", "adt")]
    assert legend_of(ax) == ["RNA", "protein", "training", "validation"]


def test_training_and_validation_curves_of_a_quantity_share_its_colour() -> None:
    history = {
        f"specific_rna/{split}_{name}": pd.DataFrame({"x": [1.0, 2.0]})
        for name in ("gaussian_bound", "nce_bound")
        for split in ("train", "validation")
    }
    ((ax,),) = pl.history(history)
    colors = [line.get_color() for line in ax.lines]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    assert [line.get_linestyle() for line in ax.lines] == ["--", "-", "--", "-"]
    assert legend_of(ax) == ["Gaussian", "NCE", "training", "validation"]


def test_kept_initial_weights_are_stated_and_not_marked_as_an_epoch() -> None:
    frame = pd.DataFrame({"x": [2.0, 1.0]})
    curves = {f"specific/{role}_leak": frame for role in ("rna", "adt")}
    kept = {f"specific/{role}_best_epoch": pd.DataFrame({"x": [-1]}) for role in ("rna", "adt")}
    ((ax,),) = pl.history(curves | kept)
    assert ax.get_title(loc="left") == "Specific representations\nkept: the initial state"
    assert len(ax.lines) == 2
    kept["specific/adt_best_epoch"] = pd.DataFrame({"x": [1]})
    ((ax,),) = pl.history(curves | kept)
    assert ax.get_title(loc="left") == "Specific representations\nkept: RNA initial, protein epoch 1\n(dotted)"
    assert list(ax.lines[-1].get_xdata()) == [1, 1]
    assert to_hex(ax.lines[-1].get_color()) == ROLE_COLORS["adt"]


def test_legends_and_titles_do_not_overlap(recorded: dict[str, pd.DataFrame]) -> None:
    axes = pl.history(recorded)
    axes[0, 0].figure.draw_without_rendering()
    boxes = [ax.get_window_extent() for ax in axes.flat if ax]
    boxes += [ax.get_legend().get_window_extent() for ax in axes.flat if ax and ax.get_legend()]
    boxes += [row[0]._left_title.get_window_extent() for row in axes]
    overlapping = [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.padded(-1).overlaps(b)]
    assert not overlapping


def test_long_legends_do_not_squeeze_panels() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    names = [f"{role}_{critic}" for role in ("rna", "adt") for critic in ("gaussian", "distance_correlation")]
    history = {f"specific/{n}_{s}_bound": frame for n in names for s in ("train", "validation")}
    history |= {f"specific/{n}_staleness": frame for n in names} | {"specific/rna_error": frame}
    axes = pl.history(history)
    axes[0, 0].figure.draw_without_rendering()
    for ax in axes[0, :2]:
        assert ax.get_legend().get_window_extent().width <= 1.15 * ax.get_window_extent().width
    widths = [ax.get_window_extent().width for ax in axes[0]]
    assert max(widths) < 1.05 * min(widths)


def test_stages_may_have_different_numbers_of_panels() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    axes = pl.history({"shared/train_loss": frame, "shared/correlation": frame, "specific_rna/bound": frame})
    assert axes.shape == (2, 2)
    assert axes[1, 1] is None
    assert len(axes[0, 0].figure.axes) == 3


@pytest.mark.parametrize("n_epochs", [1, 2, 3])
def test_ticks_of_few_epochs_are_whole_numbers(n_epochs: int) -> None:
    axes = pl.history({"shared/train_loss": pd.DataFrame({"train_loss": np.arange(n_epochs) + 0.5})})
    ax = axes.flat[0]
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks and all(tick == round(tick) for tick in ticks)


def test_selected_keys_of_a_model_are_drawn(recorded: dict[str, pd.DataFrame]) -> None:
    axes = pl.history(SimpleNamespace(history=recorded), keys=["specific_adt/critic_loss"])
    assert axes.shape == (1, 1)
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_ydata(), recorded["specific_adt/critic_loss"]["critic_loss"])


def test_epochs_without_a_value_and_steps_are_left_out() -> None:
    history = {
        "train_loss_step": pd.DataFrame({"x": [9.0]}),
        "train_loss_epoch": pd.Series([3.0, np.nan, 2.0]),
        "validation_loss": pd.DataFrame({"x": [5.0]}, index=[2]),
        "empty": pd.DataFrame({"x": [np.nan]}),
    }
    ((ax,),) = pl.history(history)
    train, validation = ax.lines
    assert (list(train.get_xdata()), list(train.get_ydata())) == ([0, 2], [3.0, 2.0])
    # A single point is drawn as a mark.
    assert (list(validation.get_xdata()), validation.get_marker()) == ([2], "o")
    assert ax.get_title(loc="left") == "Training"


def test_invalid_histories_are_rejected(recorded: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(TypeError, match=r"SimpleNamespace without a history. Call model.train\(\)"):
        pl.history(SimpleNamespace(history=None))
    with pytest.raises(KeyError, match=r"\['shared/los'\] are not in the history, which has .*shared/train_loss"):
        pl.history(recorded, keys="shared/los")
    with pytest.raises(ValueError, match=r"no curves. Call model.train\(\)"):
        pl.history({})


def test_each_modality_has_a_line_through_its_lambdas(lambda_path: SimpleNamespace) -> None:
    ax = pl.lambda_path(lambda_path)
    for name, container in zip(("rna", "adt"), ax.containers, strict=True):
        rows = lambda_path.table.query("modality == @name").sort_values("lambda")
        line, _, (bars,) = container
        np.testing.assert_allclose(line.get_xydata(), rows[["leak_ratio", "gain"]])
        assert line.get_color() == ROLE_COLORS[name]
        spread = np.array([segment[:, 0] for segment in bars.get_segments()])
        np.testing.assert_allclose(np.diff(spread).ravel(), 2 * rows["leak_ratio_se"])


def test_lambdas_are_written_beside_their_points_without_overlaps(lambda_path: SimpleNamespace) -> None:
    ax = pl.lambda_path(lambda_path)
    assert sorted(text.get_text() for text in ax.texts) == ["10", "10", "100", "100", "1000", "1000"]
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without connecting lines
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for text, (_, row) in zip(ax.texts[:3], lambda_path.table.query("modality == 'rna'")[::-1].iterrows(), strict=True):
        assert text.xy == (row["leak_ratio"], row["gain"])
        assert text.get_text() == f"{row['lambda']:g}"


def test_tolerance_and_chosen_lambda_are_marked(lambda_path: SimpleNamespace) -> None:
    ax = pl.lambda_path(lambda_path)
    (span,) = ax.patches
    assert (span.get_x(), span.get_width()) == (0, 0.02)
    rings = [line.get_xydata() for line in ax.lines if line.get_markersize() == 8.5]
    chosen = lambda_path.table[lambda_path.table["lambda"] == 100]
    np.testing.assert_allclose(np.concatenate(rings), chosen[["leak_ratio", "gain"]])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"RNA", "protein", "leak ratio within 2 %", "chosen: 100"} == set(words)
    assert words[:2] == ["RNA", "protein"]


def test_points_without_a_gain_are_left_out(lambda_path: SimpleNamespace) -> None:
    lambda_path.table.loc[lambda_path.table["modality"] == "adt", "gain"] = np.nan
    ax = pl.lambda_path(lambda_path)
    assert len(ax.containers) == 1
    lambda_path.table["gain"] = np.nan
    with pytest.raises(ValueError, match="path has no lambda with both a leak ratio and a gain"):
        pl.lambda_path(lambda_path)


def test_nearly_equal_gains_have_distinct_ticks_and_look_equal(lambda_path: SimpleNamespace) -> None:
    lambda_path.table["gain"] = 0.99 + 1e-4 * np.arange(len(lambda_path.table))
    ax = pl.lambda_path(lambda_path)
    ax.figure.draw_without_rendering()
    words = [tick.get_text() for tick in ax.get_yticklabels()]
    assert len(words) == len(set(words)) > 2
    height = np.ptp(ax.transData.transform(lambda_path.table[["leak_ratio", "gain"]])[:, 1])
    assert height < 0.1 * ax.get_window_extent().height


def test_modalities_of_any_name(lambda_path: SimpleNamespace) -> None:
    lambda_path.table["modality"] = lambda_path.table["modality"].map({"rna": "gex", "adt": "atac"})
    ax = pl.lambda_path(lambda_path)
    assert {"gex", "atac"} < {text.get_text() for text in ax.get_legend().get_texts()}
    assert ax.get_xlim()[0] <= 0 < 0.02 < ax.get_xlim()[1]
