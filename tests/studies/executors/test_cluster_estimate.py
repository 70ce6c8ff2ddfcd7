"""The simulated cluster against closed forms: jobs alike, a slow hand, lost nodes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.cluster_estimate import Cluster, Costs, job_seconds, on_paper, simulate

EXACT = Cluster(nodes=4, workers_a_node=2, spread=0.0, slow=0.0, fails_h=math.inf, start_s=5.0)
FREE = Costs(row_s=1e-3, statistics_s=0.0, parquet_s=0.0, handing_s=0.0)


@pytest.mark.parametrize("jobs", [1, 8, 9, 80])
def test_jobs_alike_end_in_rounds(jobs):
    ended, lost = simulate(np.full(jobs, 7.0), FREE, EXACT, 0)
    assert ended == pytest.approx(5.0 + 7.0 * math.ceil(jobs / 8))
    assert lost == 0


def test_one_process_that_hands_out_slower_than_jobs_end_is_what_counts():
    ended, _ = simulate(np.full(100, 1.0), replace(FREE, handing_s=2.0), EXACT, 0)
    assert ended == pytest.approx(5.0 + 2.0 * 100 + 1.0)


def test_a_process_a_job_adds_its_start_to_each():
    ended, _ = simulate(np.full(16, 7.0), FREE, replace(EXACT, each_s=3.0), 0)
    assert ended == pytest.approx(5.0 + 2 * (7.0 + 3.0))


def test_jobs_that_differ_cost_time_on_average():
    jobs = np.full(100, 60.0)
    ended = [simulate(jobs, FREE, replace(EXACT, spread=0.5), seed)[0] for seed in range(30)]
    assert np.mean(ended) > on_paper(jobs, EXACT) + 5.0


def test_slow_jobs_and_nodes_that_fail_only_cost_time():
    jobs = np.full(400, 60.0)
    plain, _ = simulate(jobs, FREE, EXACT, 0)
    for worse in (replace(EXACT, slow=0.1), replace(EXACT, fails_h=0.5)):
        ended, lost = simulate(jobs, FREE, worse, 0)
        assert ended > plain
        assert (lost > 0) == (worse.fails_h < math.inf)
        assert (ended, lost) == simulate(jobs, FREE, worse, 0)
        assert ended >= on_paper(jobs, worse)


def test_a_failed_node_loses_the_jobs_it_is_at_and_no_others():
    """Its two workers begin together, so both are lost or none."""
    cluster = replace(EXACT, nodes=1, fails_h=1.0, noticed_s=0.0, back_s=600.0)
    runs = [simulate(np.full(2, 3600.0), FREE, cluster, seed) for seed in range(20)]
    assert {lost % 2 for _, lost in runs} == {0}
    assert {lost == 0 for _, lost in runs} == {True, False}
    for ended, lost in runs:
        assert ended == pytest.approx(3605.0) if lost == 0 else ended > 3605.0 + 600.0


def test_all_rows_are_in_jobs_and_each_gathers_the_geometries_it_meets():
    costs = replace(FREE, statistics_s=100.0)
    jobs = job_seconds(costs, 30_000)  # of 20,000 designs a geometry: two or three
    assert len(jobs) == 560 * 34
    rows = jobs.sum() - 100.0 * sum(jobs // 100.0)
    assert rows == pytest.approx(560 * 1_000_000 * 1e-3)
    assert {int(job // 100) for job in jobs} <= {1, 2, 3}
