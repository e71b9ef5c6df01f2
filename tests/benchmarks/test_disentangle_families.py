"""Methods share trained stages for one data set and seed without effect on any figure."""

from __future__ import annotations

import pytest

from indiseek_sc.baselines import METHODS


@pytest.fixture
def runs(load_script):
    runs = load_script("_disentangle_runs")
    runs.open_case.cache_clear()
    yield runs
    runs.open_case.cache_clear()


@pytest.fixture
def options(runs, tmp_path):
    file = tmp_path / "width.py"
    file.write_text(
        "def audit(*, specific, **_):\n    return {f'{role}.gain': float(z.std()) for role, z in specific.items()}\n"
    )
    return runs.Options(max_cells=160, synthetic_cells=160, n_lambdas=1, max_epochs=1, auditor=file)


def make_row(runs, options, *methods):
    for method in methods:
        row, _ = runs.run(runs.Job("S1", method, 0), options)
    return {name: value for name, value in row.items() if name != "seconds"}, row["seconds"]


@pytest.mark.slow  # trains several methods
@pytest.mark.parametrize("method", ["no_critics", "factorized_cl"])
def test_a_row_does_not_depend_on_whether_its_leader_was_run_before(runs, load_script, options, method):
    leader = load_script("_disentangle_families").LEADERS[method]
    after, _ = make_row(runs, options, leader, method)
    runs.open_case.cache_clear()
    alone, _ = make_row(runs, options, method)
    assert after == pytest.approx(alone, abs=0, nan_ok=True)


@pytest.mark.slow
def test_seconds_include_stages_that_were_taken_over(runs, options):
    make_row(runs, options, "indiseek")
    _, seconds = make_row(runs, options, "no_critics")
    clock = runs.open_case("S1", 0, options).leaders["indiseek"].clock
    assert 0 < clock.shared < clock.before_critics < seconds


def test_a_leader_has_the_same_shared_representations(runs, load_script):
    for method, leader in load_script("_disentangle_families").LEADERS.items():
        own, other = ({**METHODS[name].model._changed_settings} for name in (method, leader))
        names = ("n_shared", "linear_start", "info_nce_weight", "canonical_weight", "prediction_weight", "batch_size")
        assert [own.get(name) for name in names] == [other.get(name) for name in names]
        assert METHODS[method].settings == METHODS[leader].settings


def test_groups_share_data_and_seed_with_the_longest_group_and_leaders_first(runs, load_script):
    script = load_script("disentangle")
    jobs = [
        runs.Job(data, method, seed)
        for seed in (0, 1)
        for data in ("S1", "big")
        for method in ("no_critics", "indiseek")
    ]
    groups = script.group_jobs({job: 10 if job.data == "big" else 1 for job in jobs})
    assert [(group[0].seed, group[0].data) for group in groups] == [(0, "big"), (0, "S1"), (1, "big"), (1, "S1")]
    assert all([job.method for job in group] == ["indiseek", "no_critics"] for group in groups)


def test_data_sets_with_identical_cells_share_one_run(runs, load_script, options, monkeypatch):
    for twin, source in runs.TWINS.items():
        cells = [runs.synthetic.make(name, 50, seed=3) for name in (twin, source)]
        for modality in cells[0].mod:
            assert (cells[0][modality].X == cells[1][modality].X).all()
        assert cells[0].uns["synthetic"]["factors"].equals(cells[1].uns["synthetic"]["factors"])
        (group,) = load_script("disentangle").group_jobs({runs.Job(name, "clip", 0): 1 for name in (twin, source)})
        rows = [runs.run(job, options)[0] for job in group]
        assert sorted(row.pop("data") for row in rows) == sorted([twin, source])
        assert rows[0] == pytest.approx(rows[1], abs=0, nan_ok=True)
