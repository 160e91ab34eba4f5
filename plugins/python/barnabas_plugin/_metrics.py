"""Metrics of a plugin, which the agent shows on its /metrics page."""

from __future__ import annotations

import re
import threading
from typing import Any, List

from . import plugin_pb2 as pb
from ._errors import Mistake

_MAX_METRICS = 64


class _Metric:
    """A number with a name. It is safe for concurrent use."""

    kind = pb.METRIC_KIND_UNSPECIFIED

    def __init__(self, name: str, help: str) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]{0,63}", name):
            raise Mistake(f"metric {name!r}: a name is a lower-case letter, then up to 63 of them, digits and underscores")
        if name.endswith("_total") != (self.kind == pb.METRIC_KIND_COUNTER):
            raise Mistake(f"metric {name!r}: the name of a counter ends with _total, that of a gauge does not")
        self.name = name
        self.help = help
        self._lock = threading.Lock()
        self._value = 0.0  # guarded by _lock

    @property
    def value(self) -> float:
        """The value since the start of the process."""
        with self._lock:
            return self._value


class Counter(_Metric):
    """Counts what only grows, in a base unit such as records, bytes or seconds.

    A counter "words_total" of the plugin "mask" is barnabas_plugin_mask_words_total
    on the agent's page. help is one sentence for people.
    """

    kind = pb.METRIC_KIND_COUNTER

    def add(self, n: float = 1) -> None:
        if n < 0:
            raise Mistake(f"metric {self.name!r}: a counter only grows")
        with self._lock:
            self._value += n


class Gauge(_Metric):
    """A value that goes up and down."""

    kind = pb.METRIC_KIND_GAUGE

    def set(self, value: float) -> None:
        with self._lock:
            self._value = value

    def add(self, delta: float) -> None:
        with self._lock:
            self._value += delta


def metrics_of(plugin: Any) -> List[_Metric]:
    """Asks a plugin for its metrics and checks what the agent would refuse."""
    if not hasattr(plugin, "metrics"):
        return []
    metrics = list(plugin.metrics())
    if len(metrics) > _MAX_METRICS:
        raise Mistake(f"{len(metrics)} metrics, more than {_MAX_METRICS}")
    if len({metric.name for metric in metrics}) < len(metrics):
        raise Mistake("two metrics have the same name")
    return metrics


def message_of(metrics: List[_Metric]) -> pb.MetricsReply:
    """Returns the metrics as the protocol carries them."""
    return pb.MetricsReply(metrics=[pb.Metric(name=m.name, help=m.help, kind=m.kind, value=m.value) for m in metrics])
