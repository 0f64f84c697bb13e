"""When workflows start by the clock."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    RunRequest,
    ScheduleDefinition,
    build_schedule_context,
)

from etl_defs.holds import hold, release
from etl_defs.naming import TAG_ERROR, TAG_LOGICAL_TIME, TAG_WORKFLOW
from tests.etl_defs.location import Location, copy, kept_instance

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def _scheduled(folder: Path, schedule: str) -> ScheduleDefinition:
    location = Location(folder, {"a.yaml": copy("a-flow", more=f"  schedule: {schedule}")})
    [found] = location.repository.schedule_defs
    assert location.library.compilations == 0, "a tick needs no compiled workflow"
    return found


def _requests(schedule: ScheduleDefinition, instance: DagsterInstance) -> list[RunRequest]:
    tick = schedule.evaluate_tick(build_schedule_context(instance=instance, scheduled_execution_time=NOON))
    return list(tick.run_requests or [])


def _run(instance: DagsterInstance, status: DagsterRunStatus, logical_time: datetime = NOON) -> None:
    instance.create_run(
        job_name="a_flow",
        run_id=None,
        run_config=None,
        status=status,
        tags={TAG_WORKFLOW: "a_flow", TAG_LOGICAL_TIME: logical_time.isoformat()},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=None,
        job_snapshot=None,
        parent_job_snapshot=None,
        asset_selection=None,
        asset_check_selection=None,
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=None,
        job_code_origin=None,
        asset_graph=None,  # type: ignore[arg-type]  # no assets are planned for this run
    )


def test_a_declared_schedule_is_on(tmp_path: Path) -> None:
    schedule = _scheduled(tmp_path, "{cron: '0 0 * * *', timezone: Europe/Berlin}")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 0 * * *", "Europe/Berlin")
    assert schedule.default_status is DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "a_flow"


def test_a_tick_asks_for_one_run_at_its_own_time(tmp_path: Path) -> None:
    with kept_instance(tmp_path / "dagster") as instance:
        [request] = _requests(_scheduled(tmp_path, "'0 * * * *'"), instance)
    assert request.tags[TAG_LOGICAL_TIME] == request.run_key == NOON.isoformat()
    assert request.tags[TAG_WORKFLOW] == "a_flow"


@pytest.mark.parametrize(("overlap", "asked"), [("skip", 0), ("queue", 1)])
def test_a_tick_while_a_run_goes_on(tmp_path: Path, overlap: str, asked: int) -> None:
    schedule = _scheduled(tmp_path, f"{{cron: '0 * * * *', overlap: {overlap}}}")
    with kept_instance(tmp_path / "dagster") as instance:
        _run(instance, DagsterRunStatus.STARTED)
        assert len(_requests(schedule, instance)) == asked


def test_a_workflow_that_is_held_is_passed_over_and_says_why(tmp_path: Path) -> None:
    schedule = _scheduled(tmp_path, "'0 * * * *'")
    with kept_instance(tmp_path / "dagster") as instance:
        hold(instance, "a_flow", "ann")
        tick = schedule.evaluate_tick(build_schedule_context(instance=instance, scheduled_execution_time=NOON))
        assert not tick.run_requests
        said = tick.skip_message or ""
        assert said.startswith("a_flow is held by ann since ")
        assert said.endswith("; headrace resume a_flow releases it")
        release(instance, "a_flow")
        assert len(_requests(schedule, instance)) == 1


def test_a_run_that_has_ended_is_in_nobodys_way(tmp_path: Path) -> None:
    schedule = _scheduled(tmp_path, "'0 * * * *'")
    with kept_instance(tmp_path / "dagster") as instance:
        _run(instance, DagsterRunStatus.FAILURE)
        assert len(_requests(schedule, instance)) == 1


@pytest.mark.parametrize(("catchup", "hours"), [("false", [12]), ("true", [10, 11, 12])])
def test_missed_times_are_made_up_for_only_if_asked(tmp_path: Path, catchup: str, hours: list[int]) -> None:
    schedule = _scheduled(tmp_path, f"{{cron: '0 * * * *', catchup: {catchup}}}")
    with kept_instance(tmp_path / "dagster") as instance:
        _run(instance, DagsterRunStatus.SUCCESS, NOON.replace(hour=9))
        times = [datetime.fromisoformat(each.tags[TAG_LOGICAL_TIME]) for each in _requests(schedule, instance)]
    assert [each.hour for each in times] == hours


def test_a_broken_workflow_keeps_its_schedule_so_that_somebody_notices(tmp_path: Path) -> None:
    text = copy("a-flow", source="'${MISSING_TABLE}'", more="  schedule: '@daily'")
    location = Location(tmp_path, {"a.yaml": text})
    assert [each.job_name for each in location.repository.schedule_defs] == ["a_flow"]
    assert TAG_ERROR in location.repository.get_job("a_flow").tags
    location.repository.validate_loadable()  # type: ignore[no-untyped-call]  # Dagster's own gap
