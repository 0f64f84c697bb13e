"""The values for Dagster's chart: every key is one that the chart has, and each says what the code means by it. Renders no chart."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from etl_defs import definitions
from etl_defs.naming import TAG_WORKFLOW
from server.home import SETTINGS
from tests.architecture.sources import ROOT

# What the chart of Dagster 1.13 calls what we set; `None` where it takes anything.
CHART: Mapping[str, Any] = {
    "dagster-user-deployments": {
        "enabled": bool,
        "deployments": [
            {
                "name": str,
                "image": {"repository": str, "tag": str, "pullPolicy": str},
                "codeServerArgs": [str],
                "port": int,
                "includeConfigInLaunchedRuns": {"enabled": bool},
                "env": [{"name": str, "value": str}],
                "envSecrets": [{"name": str}],
                "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}}],
                "volumeMounts": [{"name": str, "mountPath": str}],
            }
        ],
    },
    "postgresql": {"enabled": bool, "postgresqlScheme": str},
    "runLauncher": {
        "type": str,
        "config": {
            "k8sRunLauncher": {
                "imagePullPolicy": str,
                "failPodOnRunFailure": bool,
                "envSecrets": [{"name": str}],
            }
        },
    },
    "dagsterDaemon": {
        "runCoordinator": {
            "enabled": bool,
            "type": str,
            "config": {
                "queuedRunCoordinator": {
                    "dequeueIntervalSeconds": int,
                    "tagConcurrencyLimits": [
                        {"key": str, "value": {"applyLimitPerUniqueValue": bool}, "limit": int},
                    ],
                }
            },
        },
        "runMonitoring": {"enabled": bool, "startTimeoutSeconds": int, "pollIntervalSeconds": int},
        "runRetries": {"enabled": bool, "maxRetries": int, "retryOnAssetOrOpFailure": bool},
    },
    "telemetry": {"enabled": bool},
}
VALUES: Mapping[str, Any] = yaml.safe_load((ROOT / "helm-values.yaml").read_text(encoding="utf-8"))


def _faults(given: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(wanted, Mapping):
        for key, value in given.items() if isinstance(given, Mapping) else [(path, given)]:
            yield from _faults(value, wanted[key], f"{path}.{key}") if key in wanted else [f"{path}.{key} is unknown"]
    elif isinstance(wanted, list):
        yield from (fault for each in given for fault in _faults(each, wanted[0], f"{path}[]"))
    elif type(given) is not wanted:
        yield f"{path} is {given!r}"


def test_the_chart_knows_every_key() -> None:
    assert list(_faults(VALUES, CHART)) == []


def test_a_misspelt_key_and_a_wrong_type_are_found() -> None:
    daemon = {"dagsterDaemon": {"runMonitorng": {"enabled": True}, "runRetries": {"maxRetries": "2"}}}
    assert list(_faults(daemon, CHART)) == [
        ".dagsterDaemon.runMonitorng is unknown",
        ".dagsterDaemon.runRetries.maxRetries is '2'",
    ]


def test_the_code_server_loads_what_there_is() -> None:
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    given = deployment["codeServerArgs"]
    assert dict(zip(given[::2], given[1::2], strict=True)) == {
        "--python-module": definitions.__name__,
        "--attribute": "defs",
    }
    assert definitions.defs.name == "__repository__"


def test_the_home_outlives_a_pod() -> None:
    [deployment] = VALUES["dagster-user-deployments"]["deployments"]
    [home] = [each["value"] for each in deployment["env"] if each["name"] == "HEADRACE_HOME"]
    mounts = {each["mountPath"]: each["name"] for each in deployment["volumeMounts"]}
    assert any(PurePosixPath(home).is_relative_to(mount) for mount in mounts)
    assert set(mounts.values()) == {each["name"] for each in deployment["volumes"]}
    assert deployment["includeConfigInLaunchedRuns"]["enabled"], "the pods of runs mount it, too"


def test_the_queue_is_that_of_a_deployment_without_servers() -> None:
    coordinator = VALUES["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    own = yaml.safe_load(SETTINGS)
    assert coordinator["tagConcurrencyLimits"] == own["run_queue"]["tag_concurrency_limits"]
    assert [each["key"] for each in coordinator["tagConcurrencyLimits"]] == [TAG_WORKFLOW]
    retries = VALUES["dagsterDaemon"]["runRetries"]
    assert retries["retryOnAssetOrOpFailure"] is own["run_retries"]["retry_on_asset_or_op_failure"] is False
