"""From a push to a trained model, over all machines: GitLab's double, and the real runner with real jobs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import gitlab
import httpx
import pytest

from tests.end_to_end.pipeline import Outcome, run
from tests.lab.laboratory import Lab

FIRST_LINE_SECONDS = 5


@pytest.fixture(scope="module")
def example(lab: Lab, client: gitlab.Gitlab) -> Callable[[], Outcome]:
    """What becomes of the example pipeline; it runs when it is first asked for, in a test that measures."""
    return functools.cache(lambda: run(client, "demo", lab.ca_file))


@pytest.fixture
def outcome(example: Callable[[], Outcome]) -> Outcome:
    """What became of the example pipeline."""
    return example()


@pytest.mark.measures
def test_jobs_start_soon_after_a_push(example: Callable[[], Outcome]) -> None:
    assert example().first_line_s < FIRST_LINE_SECONDS


def test_example_trains_in_python_and_in_r(outcome: Outcome) -> None:
    assert outcome.jobs == dict.fromkeys(("table", "train in Python", "train in R", "summary"), "success")
    assert "| Python | 0.9" in outcome.summary
    assert "| R | 0.9" in outcome.summary or "| R | 1.0" in outcome.summary


def test_data_set_is_in_the_projects_bucket_and_runs_are_in_mlflow(lab: Lab, outcome: Outcome) -> None:
    objects = lab.s3("demo").list_objects_v2(Bucket="demo", Prefix="example-pipeline/")["Contents"]
    assert [one["Key"].rpartition("/")[2] for one in objects] == ["iris-python.csv", "iris-r.csv"]
    with httpx.Client(verify=lab.trust, auth=lab.login("Platform login"), trust_env=False) as web:
        address = f"{lab.url('mlflow')}/api/2.0/mlflow/runs/get"
        for run_id in (
            line.split("|")[3].strip() for line in outcome.summary.splitlines() if "s3://" in line
        ):
            found = web.get(address, params={"run_id": run_id}).json()["run"]
            assert found["info"]["status"] == "FINISHED"
            assert 0.9 <= found["data"]["metrics"][0]["value"] <= 1


def test_every_runner_host_has_one_runner_that_is_online(lab: Lab, client: gitlab.Gitlab) -> None:
    runners = {one.description: one.status for one in client.runners_all.list(get_all=True)}
    assert runners == {f"dap/runner{number}/docker": "online" for number in (1, 2)}
