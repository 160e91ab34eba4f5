"""What a plugin logs: lines of JSON on standard error, as the agent reads them."""

from __future__ import annotations

import datetime
import json
import logging
import sys

_TRACE = 5  # below DEBUG, as hclog has it
_LEVELS = {"trace": _TRACE, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Formatter(logging.Formatter):
    """Formats as hclog does. What is given as extra becomes attributes."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        line = {
            "@level": _name_of(record.levelno),
            "@message": record.getMessage(),
            "@timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
        if record.name != "root":
            line["logger"] = record.name
        line.update((name, value) for name, value in vars(record).items() if name not in _OWN and name not in line)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _name_of(level: int) -> str:
    return next((name for name, least in reversed(list(_LEVELS.items())) if level >= least), "trace")


def set_up(level: str) -> None:
    """Makes the root logger of the module logging write for the agent; info for an unknown level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.addLevelName(_TRACE, "TRACE")
    logging.basicConfig(handlers=[handler], level=_LEVELS.get(level.lower(), logging.INFO), force=True)
