"""What Dagster loads: every workflow by name, one built at a time, faults kept apart."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance, Definitions, GraphDefinition
from dagster._core.remote_representation.external_data import RepositorySnap

from dsl.compile import Outline, outline
from etl_defs.naming import TAG_ERROR
from tests.etl_defs.location import Location, copy

TWO_TARGETS = """\
workflow:
  name: fan-out
  description: Two targets from one source.
  owners: [data@example.com]
  tags: {tier: gold}
  sources:
    users:
      type: memory
      config: {table: copied, space: SPACE}
  transformations:
    named:
      inputs: [users]
      type: filter
      config: {condition: "name != null"}
  destinations:
    first:
      inputs: [named]
      type: memory
      config: {table: first, space: SPACE}
    second:
      inputs: [users]
      type: memory
      config: {table: second, space: SPACE}
"""


def _snapshot(location: Location) -> RepositorySnap:
    location.repository.validate_loadable()  # type: ignore[no-untyped-call]  # Dagster's own gap
    return RepositorySnap.from_def(location.repository, defer_snapshots=True)


def _key(location: Location, *parts: str) -> AssetKey:
    return AssetKey(["memory", location.space, *parts])


def test_a_location_without_workflows_loads(tmp_path: Path) -> None:
    location = Location(tmp_path, {})
    assert _snapshot(location).asset_nodes == []
    assert location.library.names == ()


def test_a_folder_that_is_not_there_is_an_empty_one(tmp_path: Path) -> None:
    location = Location(tmp_path, {})
    location.files.rmdir()
    assert location.library.names == ()


def test_names_are_known_before_anything_is_compiled(tmp_path: Path) -> None:
    texts = {f"w{number}.yaml": copy(f"flow-{number}", target=f"t{number}") for number in range(20)}
    location = Location(tmp_path, texts)
    assert len(set(location.repository.job_names) & set(location.library.names)) == 20
    assert location.repository.has_job("flow_7")
    assert not location.repository.has_job("flow_77")
    assert location.library.compilations == 0


def test_a_run_compiles_its_own_workflow_only(tmp_path: Path) -> None:
    texts = {f"w{number}.yaml": copy(f"flow-{number}", target=f"t{number}") for number in range(20)}
    location = Location(tmp_path, texts)
    location.fill("users")
    with DagsterInstance.ephemeral() as instance:
        assert location.run("flow_7", instance).success
    assert location.library.compilations == 2, "once to define the job, once with the schemas of the run"
    assert len(location.rows("t7")) == 5


def test_a_run_reads_the_headings_of_its_own_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {f"w{number}.yaml": copy(f"flow-{number}", target=f"t{number}") for number in range(20)}
    location, read = Location(tmp_path, texts), list[str]()

    def noted(text: str, path: str, environment: Mapping[str, str]) -> tuple[Outline, ...]:
        read.append(path)
        return outline(text, path, environment)

    monkeypatch.setattr("etl_defs.library.outline", noted)
    assert location.repository.get_job("flow_7").name == "flow_7"
    assert [Path(each).name for each in read] == ["w7.yaml"]


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ('{name: "in-braces", SOURCE}', "in_braces"),
        ("{'name': quoted, SOURCE}", "quoted"),
    ],
)
def test_a_name_is_found_however_it_is_written(tmp_path: Path, heading: str, name: str) -> None:
    ends = "source: {type: memory, config: {table: a, space: s}}, destination: {type: memory, config: {table: b, space: s}}"
    texts = {"w.yaml": f"workflow: {heading.replace('SOURCE', ends)}", "other.yaml": copy("other")}
    location = Location(tmp_path, texts)
    assert location.repository.has_job(name)
    assert TAG_ERROR not in location.repository.get_job(name).tags
    assert location.library.names == tuple(sorted(["other", name]))


def test_a_run_of_a_name_that_two_files_give_fails_too(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("my-flow"), "b.yaml": copy("my_flow", target="other")})
    assert location.repository.get_job("my_flow").tags[TAG_ERROR] == "load"


def test_one_broken_file_takes_nothing_else_down(tmp_path: Path) -> None:
    texts = {
        "good.yaml": copy("good"),
        "syntax.yaml": "workflow:\n  name: no-yaml\n  source: [\n",
        "unknown.yaml": copy("misspelt", more="  shedule: '@daily'"),
        "missing.yaml": copy("missing", source="'${FIRST_MISSING}_${SECOND_MISSING}'"),
        "empty.yaml": "",
        "binary.yaml": "workflow: \x00\n",
    }
    location = Location(tmp_path, texts)
    snapshot = _snapshot(location)
    keys = {node.asset_key.to_user_string() for node in snapshot.asset_nodes}
    assert f"memory/{location.space}/copied" in keys
    assert {"load_errors/no_yaml", "load_errors/misspelt", "load_errors/missing", "load_errors/empty"} <= keys
    jobs = {job.name: job for job in location.repository.get_all_jobs()}
    assert TAG_ERROR not in jobs["good"].tags
    assert jobs["misspelt"].tags[TAG_ERROR] == "load"
    assert "did you mean 'schedule'?" in (jobs["misspelt"].description or "")


def test_missing_variables_are_listed_where_the_workflow_is_looked_for(tmp_path: Path) -> None:
    location = Location(tmp_path, {"missing.yaml": copy("missing", source="'${FIRST_MISSING}_${SECOND_MISSING}'")})
    text = location.repository.get_job("missing").description or ""
    assert "FIRST_MISSING" in text
    assert "SECOND_MISSING" in text
    assert "missing.yaml:" in text


def test_faults_are_a_list_that_a_narrow_column_can_wrap(tmp_path: Path) -> None:
    text = copy("odd", more="  shedule: '@daily'\n  tags: {a: [1]}")
    lines = (Location(tmp_path, {"odd.yaml": text}).repository.get_job("odd").description or "").splitlines()
    faults = [each for each in lines if each.startswith("- ")]
    assert [each.split()[1:3] for each in faults] == [["`odd.yaml:3:3`", "**E302**"], ["`odd.yaml:4:13`", "**E304**"]]


def test_the_run_of_a_broken_workflow_fails_with_its_faults(tmp_path: Path) -> None:
    location = Location(tmp_path, {"unknown.yaml": copy("misspelt", more="  shedule: '@daily'")})
    with DagsterInstance.ephemeral() as instance:
        result = location.run("misspelt", instance)
        assert not result.success
        [failure] = [each for each in result.all_events if each.is_step_failure]
        assert failure.step_failure_data.user_failure_data is not None
        assert "E302" in (failure.step_failure_data.user_failure_data.description or "")


def test_workflows_that_share_a_dagster_name_both_say_so(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("my-flow"), "b.yaml": copy("my_flow", target="other")})
    _snapshot(location)
    assert location.library.names == ("my_flow", "my_flow_2")
    for name in location.library.names:
        assert "E701" in (location.repository.get_job(name).description or "")
        assert location.repository.get_job(name).tags[TAG_ERROR] == "load"


def test_two_workflows_join_up_by_what_they_read_and_write(tmp_path: Path) -> None:
    location = Location(tmp_path, {"one.yaml": copy("one"), "two.yaml": TWO_TARGETS})
    nodes = {node.asset_key: node for node in _snapshot(location).asset_nodes}
    users, copied = _key(location, "users"), _key(location, "copied")
    assert [edge.parent_asset_key for edge in nodes[copied].parent_edges] == [users]
    for target in ("first", "second"):
        node = nodes[_key(location, target)]
        assert [edge.parent_asset_key for edge in node.parent_edges] == [copied]
        assert node.group_name == "fan_out"
        assert node.owners is not None
        assert "fan_out" in node.job_names
    assert nodes[users].is_executable is False
    assert nodes[users].group_name == "sources"


def test_stages_are_ops_of_the_jobs_graph(tmp_path: Path) -> None:
    location = Location(tmp_path, {"two.yaml": TWO_TARGETS})
    job = location.repository.get_job("fan_out")
    graph = job.graph.node_dict["fan_out__stages"].definition
    stages = {stage.id for stage in location.library.compiled("fan_out").physical.stages}
    assert isinstance(graph, GraphDefinition)
    assert set(graph.node_dict) == stages
    assert {"first", "second"} < stages
    assert job.executor_def.name == "in_process"


def test_the_second_writer_of_a_table_has_a_key_of_its_own(tmp_path: Path) -> None:
    texts = {
        "a.yaml": copy("a"),
        "b.yaml": copy("b", source="elsewhere"),
        "c.yaml": copy("c", source="copied", target="x"),
    }
    location = Location(tmp_path, texts)
    keys = {node.asset_key for node in _snapshot(location).asset_nodes if node.is_executable}
    assert keys == {_key(location, "copied"), _key(location, "copied", "by_b"), _key(location, "x")}


def test_a_run_gives_its_target_the_same_key_as_the_location(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a"), "b.yaml": copy("b"), "z.yaml": copy("z", target="unrelated")})
    assert location.data.get_job("b").asset_layer.executable_asset_keys == {_key(location, "copied", "by_b")}
    assert location.library.compilations == 2, "z does not mention the table"


def test_a_source_that_two_workflows_read_names_both(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a"), "b.yaml": copy("b", target="other")})
    [users] = [node for node in _snapshot(location).asset_nodes if node.asset_key == _key(location, "users")]
    assert "`a`" in (users.description or "")
    assert "`b`" in (users.description or "")


def test_a_circle_of_workflows_is_left_open(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a", "x", "y"), "b.yaml": copy("b", "y", "x")})
    edges = {
        node.asset_key.path[-1]: [edge.parent_asset_key.path[-1] for edge in node.parent_edges]
        for node in _snapshot(location).asset_nodes
    }
    assert edges in ({"x": ["y"], "y": []}, {"x": [], "y": ["x"]})


def test_a_workflow_that_reads_what_it_writes_loads(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a", "x", "x")})
    assert [node.asset_key for node in _snapshot(location).asset_nodes] == [_key(location, "x")]


def test_connections_are_resources_by_name(tmp_path: Path) -> None:
    location = Location(tmp_path, {"a.yaml": copy("a")})
    resources = location.repository.get_top_level_resources()
    assert len(resources) == 2
    assert all(name.startswith("a__") for name in resources)


def test_everything_at_once_is_the_same(tmp_path: Path) -> None:
    location = Location(tmp_path, {"one.yaml": copy("one"), "two.yaml": TWO_TARGETS, "bad.yaml": "workflow: 1"})
    definitions = location.data.definitions()
    Definitions.validate_loadable(definitions)
    assert {job.name for job in definitions.resolve_all_job_defs()} >= {"one", "fan_out", "bad"}
