"""A plugin as a program: what it says of itself, and one configured stage of it."""

from __future__ import annotations

import enum
import json
import threading
import traceback
from contextlib import contextmanager
from typing import Any, Iterator, List, NamedTuple, Optional

from . import _metrics
from . import plugin_pb2 as pb
from ._batch import Batch, Kind, Role, Stage
from ._columns import Columns, ColumnSet, message_of, names_of
from ._config import configured, schema_of, with_defaults
from ._errors import ConfigErrors, Mistake, Refusal, RetryLater
from ._topology import Topology

PROTOCOL_VERSION = 1


class ProgramKind(enum.Enum):
    """The kinds of plugins: the protocol's number, the method, and the name of the block in the agent's configuration."""

    INTERCEPTOR = (pb.STAGE_KIND_INTERCEPTOR, "on_send", "interceptor")
    SERIALIZER = (pb.STAGE_KIND_SERIALIZER, "serialize", "value_serializer")
    PARTITIONER = (pb.STAGE_KIND_PARTITIONER, "partition", "partitioner")

    def __init__(self, number: int, method: str, block: str) -> None:
        self.number = number
        self.method = method
        self.block = block


class Acknowledgement(NamedTuple):
    """What became of consecutive records of one partition, or of records that failed."""

    topic: str
    partition: int
    first_offset: int  # -1 for records without one
    count: int
    error: str  # empty: delivered


class Program:
    """A plugin as a program. plugin_class() makes a plugin.

    A plugin's configuration is the fields of its class, a dataclass (see
    setting), except those whose names begin with "_". A class that is no
    dataclass says with the attribute config_schema, a JSON Schema as a dict, what
    it takes, and finds it in the attribute config, a dict. Beside its main method
    (on_send, serialize or partition, with the batch) a plugin may have:

    - configure(): its configuration is set; it compiles expressions and checks what
      a schema can't. ConfigError, or several in ConfigErrors, names the wrong member.
      It starts nothing: it is also called when a configuration is only checked.
    - columns(): returns Columns, so that no others cross to the process. It is asked
      before configuration, for the most that any needs, and after it. Without it an
      interceptor reads and writes all, a serializer its payload, a partitioner reads
      key and topic. A serializer's payload and a partitioner's choice are implied.
    - on_topology(topology): before the first batch that needs it, and on changes.
    - on_acknowledgement(acknowledgements): what became of records. Nothing waits
      for it, and what it does not take in time is dropped.
    - on_acknowledgement_loss(records): how many records it will not hear of.
    - metrics(): returns Counters and Gauges, which the agent shows on its /metrics
      page. It is asked once, after configuration; they are read at any time from then on.
    - close(): after the last batch. It has a second when the agent has died.
    - may_drop (True): whether an interceptor may drop records.
    - accepts_objects (False): whether a serializer takes objects; without it such
      records are refused before it sees the batch.
    - reads_payload (True): whether a serializer looks at what it serializes.
    - deterministic (False): whether the same records always have the same result.
    - concurrent (False): whether batches of several lanes may be handled at the
      same time, in threads. Otherwise one method runs at a time, so that a plugin
      needs no locks; a concurrent one gets acknowledgements at the same time too.
    """

    def __init__(self, kind: ProgramKind, name: str, version: str, plugin_class: type) -> None:
        self.kind = kind
        self.name = name
        self.version = version
        self.plugin_class = plugin_class
        if not callable(getattr(plugin_class, kind.method, None)):
            raise Mistake(f"{plugin_class.__name__} is no {kind.name.lower()}: it has no method {kind.method}(batch)")

    def describe(self) -> pb.Description:
        """Says what the program is."""
        plugin = with_defaults(self.plugin_class)
        columns = self._columns(plugin, ColumnSet.VALUE | ColumnSet.KEY)
        return pb.Description(
            name=self.name,
            kind=self.kind.number,
            version=self.version,
            protocol_versions=[PROTOCOL_VERSION],
            reads=message_of(columns.reads),
            writes=message_of(columns.writes),
            config_schema=json.dumps(schema_of(self.plugin_class)),
            may_drop=self._may_drop(plugin),
            wants_acknowledgements=hasattr(plugin, "on_acknowledgement"),
            wants_topology=hasattr(plugin, "on_topology"),
            deterministic=bool(getattr(plugin, "deterministic", False)),
            accepts_objects=self._accepts_objects(plugin),
        )

    def stage(self, plugin: Any, role: Role) -> Stage:
        """Returns what a plugin may do once it is configured."""
        return Stage(
            columns=self._columns(plugin, ColumnSet.KEY if role is Role.KEY else ColumnSet.VALUE),
            role=role,
            may_drop=self._may_drop(plugin),
            may_set_object=self.kind is ProgramKind.INTERCEPTOR,
            accepts_objects=self._accepts_objects(plugin),
            concurrent=bool(getattr(plugin, "concurrent", False)),
        )

    def _columns(self, plugin: Any, payload: ColumnSet) -> Columns:
        declared = plugin.columns() if hasattr(plugin, "columns") else None
        reads, writes = declared if declared is not None else (ColumnSet.NONE, ColumnSet.NONE)
        if self.kind is ProgramKind.SERIALIZER:
            reads |= payload if getattr(plugin, "reads_payload", True) else ColumnSet.NONE
            writes = writes & ~(ColumnSet.VALUE | ColumnSet.KEY) | payload
        elif self.kind is ProgramKind.PARTITIONER:
            reads = reads if declared is not None else ColumnSet.KEY | ColumnSet.TOPIC
            writes = ColumnSet.PARTITION
        elif declared is None:
            reads, writes = ColumnSet.ALL, ColumnSet.ALL
        return Columns(ColumnSet(reads & ColumnSet.ALL), ColumnSet(writes & ColumnSet.WRITABLE))

    def _may_drop(self, plugin: Any) -> bool:
        return self.kind is ProgramKind.INTERCEPTOR and bool(getattr(plugin, "may_drop", True))

    def _accepts_objects(self, plugin: Any) -> bool:
        return self.kind is not ProgramKind.SERIALIZER or bool(getattr(plugin, "accepts_objects", False))


class Refused(Exception):
    """A call that can't be answered: how gRPC names it, and why."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


_MAX_PARTITIONS = 1 << 20  # what the agent can make a plugin allocate per topic
_MAX_ERROR = 8 << 10  # characters: it travels in a header of HTTP/2, which the agent limits


class Server:
    """One configured stage behind the protocol. It is safe for concurrent use.

    reusable lets one agent after the other configure it.
    """

    def __init__(self, program: Program, reusable: bool = False) -> None:
        self._program = program
        self._reusable = reusable
        self._turn = Turn()
        self._plugin: Any = None  # set once configured for real
        self._stage = Stage(Columns())
        self._metrics: List[Any] = []
        self._topology: Optional[Topology] = None
        self._closed = False

    def describe(self, _: pb.DescribeRequest) -> pb.Description:
        return self._program.describe()

    def configure(self, request: pb.ConfigureRequest) -> pb.ConfigureReply:
        """Checks a configuration on a fresh plugin, which becomes the stage's own unless it is only validated."""
        with self._turn.alone():
            if self._plugin is not None and not request.validate_only and not self._reusable:
                raise Refused("FAILED_PRECONDITION", "the plugin is configured already")
            try:
                plugin = configured(self._program.plugin_class, request.config)
            except ConfigErrors as wrong:
                return pb.ConfigureReply(errors=[pb.ConfigError(pointer=e.pointer, message=e.message) for e in wrong.errors])
            stage = self._program.stage(plugin, Role.KEY if request.role == pb.ROLE_KEY else Role.VALUE)
            metrics = _metrics.metrics_of(plugin)
            if not request.validate_only:
                self._plugin, self._stage, self._metrics, self._closed = plugin, stage, metrics, False
                self._show_topology()
            return pb.ConfigureReply(reads=message_of(stage.columns.reads), writes=message_of(stage.columns.writes))

    def update_topology(self, message: pb.Topology) -> pb.Empty:
        for t in message.topics:
            if t.partitions > _MAX_PARTITIONS or len(t.unavailable) > t.partitions:
                raise Refused("INVALID_ARGUMENT", f"topic {t.topic!r}: {t.partitions} partitions, {len(t.unavailable)} unavailable")
        topology = Topology(
            {t.topic: t.partitions for t in message.topics}, {t.topic: t.unavailable for t in message.topics}
        )
        with self._turn.alone():
            self._topology = topology
            self._show_topology()
        return pb.Empty()

    def answer(self, message: pb.Batch) -> pb.Reply:
        """Lets the plugin handle a batch. A canary waits for its turn as well, so
        that a plugin that hangs does not answer it."""
        with self._turn_of_plugin():
            try:
                batch = Batch(message, self._stage)
            except ValueError as error:
                raise Refused("INVALID_ARGUMENT", f"batch {message.id}: {error}") from error
            if len(batch) > 0:
                try:
                    self._handle(batch, message.id)
                except RetryLater as retry:
                    after = min(max(int(retry.after * 1000), 0), 0xFFFFFFFF)
                    again = pb.RetryLater(reason=_clean(str(retry)), after_ms=after)
                    return pb.Reply(id=message.id, count=message.count, retry_later=again)
            return batch._reply.build(message.id)

    def acknowledge(self, message: pb.Acknowledgements) -> None:
        ranges: List[Acknowledgement] = [
            Acknowledgement(r.topic, r.partition, r.first_offset, r.count, r.error) for r in message.ranges
        ]
        with self._turn_of_plugin():
            if message.dropped and hasattr(self._plugin, "on_acknowledgement_loss"):
                self._plugin.on_acknowledgement_loss(message.dropped)
            if ranges and hasattr(self._plugin, "on_acknowledgement"):
                self._plugin.on_acknowledgement(ranges)

    def metrics(self, _: pb.MetricsRequest) -> pb.MetricsReply:
        """Returns the plugin's metrics, without waiting for its turn."""
        return _metrics.message_of(self._metrics)

    def close(self) -> None:
        """Ends the plugin's work. Called again it does nothing."""
        with self._turn.alone():
            if self._closed or self._plugin is None:
                return
            self._closed = True
            if hasattr(self._plugin, "close"):
                self._plugin.close()

    def _handle(self, batch: Batch, batch_id: int) -> None:
        missing = self._stage.columns.reads & ~batch._present
        if missing:
            raise Refused("INVALID_ARGUMENT", f"batch {batch_id} lacks {names_of(missing)}, which the plugin reads")
        payload = ColumnSet.KEY if self._stage.role is Role.KEY else ColumnSet.VALUE
        if not self._stage.accepts_objects and batch._present & payload:
            for i in range(len(batch)):
                if batch.payload_kind(i) is Kind.OBJECT:
                    batch.fail(i, Refusal("object.unsupported", "this serializer takes no objects"))
        try:
            getattr(self._plugin, self._program.kind.method)(batch)
        except RetryLater:
            raise
        except BaseException as error:
            raise Refused("UNKNOWN", _clean(traceback.format_exc())) from error

    def _show_topology(self) -> None:
        if self._topology is not None and hasattr(self._plugin, "on_topology"):
            self._plugin.on_topology(self._topology)

    @contextmanager
    def _turn_of_plugin(self) -> Iterator[None]:
        with self._turn.shared() if self._stage.concurrent else self._turn.alone():
            if self._plugin is None or self._closed:
                raise Refused("FAILED_PRECONDITION", "the plugin is not configured, or closed")
            yield


def _clean(text: str) -> str:
    """Returns the end of a text, where the reason of a traceback stands, as what can be sent."""
    return text[-_MAX_ERROR:].strip().encode("utf-8", "replace").decode("utf-8")


class Turn:
    """Whose turn it is to call the plugin: one caller alone, or several that share it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0  # guarded by _changed
        self._alone = False  # guarded by _changed
        self._waiting = 0  # guarded by _changed: callers who want it alone go first

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._alone and self._sharing == 0)
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and self._waiting == 0)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()
