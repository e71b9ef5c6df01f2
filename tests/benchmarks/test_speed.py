"""The plain loops for the timing of training steps, and the rows of the table."""

from __future__ import annotations

import pytest
import torch

from indiseek_sc import IndiSeek
from indiseek_sc.model import _runs


def test_a_row_has_median_and_range(load_script):
    row = load_script("speed").summarize("train", "shared", iter([3.0, 1.0, 2.0]))
    assert (row["median"], row["lowest"], row["highest"], row["n"]) == (2.0, 1.0, 3.0, 3)


@pytest.mark.parametrize("validate", [False, True])
def test_plain_loops_train_the_parameters_of_the_stages(load_script, pbmc_small, monkeypatch, validate):
    run_loop = load_script("_bare_loops").run_loop
    fit_stage, shares = _runs.fit_stage, {}

    def loop_first(plan, data, **kwargs):
        before = {name: p.detach().clone() for name, p in plan.named_parameters()}
        run_loop(plan, data, 1, kwargs["limit_train_batches"], validate=validate)
        changed = {name: not torch.equal(before[name], p) for name, p in plan.named_parameters()}
        trained = [
            is_changed
            for (_, p), is_changed in zip(plan.named_parameters(), changed.values(), strict=True)
            if p.requires_grad
        ]
        assert sum(changed.values()) == sum(trained)
        shares[kwargs["stage"]] = sum(trained) / len(trained)
        return fit_stage(plan, data, **kwargs)

    monkeypatch.setattr(_runs, "fit_stage", loop_first)
    IndiSeek.setup_mudata(pbmc_small)
    IndiSeek(pbmc_small).train(1, plan_kwargs={"gate_critics": False}, enable_progress_bar=False, accelerator="cpu")
    assert {"shared", "specific", "decoder"} <= set(shares)
    assert all(share > 0.3 for share in shares.values())


def test_each_stage_is_timed_and_still_trained(load_script, pbmc_small):
    IndiSeek.setup_mudata(pbmc_small)
    model = IndiSeek(pbmc_small)
    with load_script("_bare_loops").timed_stages(n_epochs=1, n_repeats=2) as times:
        outcome = model.train(2, stages=("shared",), enable_progress_bar=False, accelerator="cpu")
    assert set(times) == {fit.stage for fit in outcome.fits}
    assert all(fit.n_epochs == 2 for fit in outcome.fits)
    assert all(len(x) == 2 and min(x) > 0 for t in times.values() for x in (t.fit, t.validated, t.bare))
