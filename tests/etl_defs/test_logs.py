"""Structured logs: nine fields a line, no secret in any."""

import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from dsl.contracts.redaction import remember
from dsl.contracts.stores import Event
from etl_defs.logs import FIELDS, LOGGER, JsonFormatter, LoggedEvents


def _line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, object] = json.loads(text)
    return found


def _record(message: str, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": LOGGER, "levelname": "INFO", "msg": message, "created": 0.25, **fields})


def test_the_nine_fields_of_the_founding_document() -> None:
    line = _line(_record("读取了1000条记录", workflow_id="example-workflow", records_count=1000))
    assert tuple(line) == FIELDS
    assert line["timestamp"] == "1970-01-01T00:00:00.250+00:00"
    assert (line["message"], line["records_count"], line["bytes_read"]) == ("读取了1000条记录", 1000, None)


def test_what_dagster_logs_is_filed_under_its_workflow() -> None:
    meta = {
        "orig_message": "hello",
        "job_name": "example_workflow",
        "op_name": "target",
        "job_tags": {"headrace/workflow": "w"},
    }
    line = _line(_record("a - long - line", dagster_meta=meta))
    assert (line["message"], line["workflow_id"], line["component"]) == ("hello", "w", "target")


def test_no_secret_in_a_line_nor_in_its_traceback() -> None:
    secret = remember("canary-in-a-log")
    try:
        int(secret)
    except ValueError:
        text = JsonFormatter().format(_record(f"refused {secret}", exc_info=sys.exc_info()))
    assert secret not in text
    assert "ValueError" in text


def test_events_carry_their_numbers(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger(LOGGER).propagate = True
    event = Event("progress", "flow", "target", datetime(2026, 1, 1, tzinfo=UTC), {"rows": 1000, "bytes": 64})
    with caplog.at_level(logging.INFO, LOGGER):
        LoggedEvents({"target": "postgres"}).emit(event)
    line = _line(caplog.records[-1])
    assert (line["workflow_id"], line["component"], line["connector"]) == ("flow", "target", "postgres")
    assert (line["message"], line["records_count"], line["bytes_read"]) == ("progress: rows 1,000, bytes 64", 1000, 64)
