"""Structured logs: one JSON object a line with the same nine fields everywhere; decides nothing, and never shows a secret.

In `dagster.yaml`:

    python_logs:
      dagster_handler_config:
        handlers: {console: {class: logging.StreamHandler, formatter: json}}
        formatters: {json: {"()": etl_defs.logs.JsonFormatter}}
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from dsl.contracts.redaction import scrub
from dsl.contracts.stores import Event

LOGGER = "headrace"
FIELDS = (
    "timestamp",
    "level",
    "workflow_id",
    "component",
    "connector",
    "message",
    "records_count",
    "bytes_read",
    "duration_ms",
)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON with `FIELDS`; what is not known is null.

    A record carries the fields as attributes (`logger.info(…, extra={"workflow_id": …})`); those that Dagster makes
    get the workflow and the component from their run and step.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, without remembered secrets."""
        line: dict[str, object] = {name: getattr(record, name, None) for name in FIELDS}
        line |= {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        meta = getattr(record, "dagster_meta", None)
        if isinstance(meta, Mapping):
            line["message"] = meta.get("orig_message") or line["message"]
            line["workflow_id"] = line["workflow_id"] or _workflow_of(meta)
            line["component"] = line["component"] or meta.get("op_name") or meta.get("step_key")
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return scrub(json.dumps(line, ensure_ascii=False, default=str))


def _workflow_of(meta: Mapping[str, object]) -> object:
    tags = meta.get("job_tags")
    return (tags.get("headrace/workflow") if isinstance(tags, Mapping) else None) or meta.get("job_name")


def start_logging() -> None:
    """Sends Headrace's records to standard error as JSON, unless the process has set them up already."""
    logger = logging.getLogger(LOGGER)
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class LoggedEvents:
    """Writes every event to the log of the process; nothing of it reaches Dagster's event log.

    Args:
        connectors: Stage id -> the `type` of the connector that it writes to.
    """

    def __init__(self, connectors: Mapping[str, str] | None = None) -> None:
        self._connectors = dict(connectors or {})
        self._logger = logging.getLogger(LOGGER)

    def emit(self, event: Event) -> None:
        """Writes one event, its numbers under the names of `FIELDS`."""
        fields = event.fields
        level = logging.WARNING if event.name in {"retrying", "rejected"} else logging.INFO
        self._logger.log(
            level,
            sentence(event),
            extra={
                "workflow_id": event.workflow,
                "component": event.stage,
                "connector": self._connectors.get(event.stage),
                "records_count": fields.get("rows", fields.get("read")),
                "bytes_read": fields.get("bytes"),
                "duration_ms": fields.get("duration_ms"),
            },
        )


def sentence(event: Event) -> str:
    """Returns an event as a line for people: its name, then its facts."""
    facts = ", ".join(f"{name} {_shown(value)}" for name, value in event.fields.items() if value is not None)
    return f"{event.name.replace('_', ' ')}: {facts}" if facts else event.name.replace("_", " ")


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
