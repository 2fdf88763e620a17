"""A logger for terminals: what the assets say, without Dagster's own events."""

import logging
from typing import Any

import dagster as dg


@dg.logger(config_schema={}, description="What the assets say, without Dagster's own events.")
def plain(_: dg.InitLoggerContext) -> logging.Logger:
    """Write to standard error, without date and level."""
    logger = logging.Logger("plain", logging.INFO)
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: _meta(record).get("dagster_event") is None)
    handler.setFormatter(_Plain())
    logger.addHandler(handler)
    return logger


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"  {_meta(record).get('orig_message', record.getMessage())}"


def _meta(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "dagster_meta", {})
