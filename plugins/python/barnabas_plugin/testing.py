"""Tries a plugin without the agent: in a test's own process, by the protocol's own messages.

::

    from barnabas_plugin.testing import Given, handle

    outcomes = handle(Shout, [Given(b"hello")], config={"suffix": "?"})
    assert outcomes[0].value == b"HELLO?"
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import plugin_pb2 as pb
from ._batch import PARTITION_ANY, Header, Role, Source
from ._columns import NULL, OBJECT, ByteColumn, pack, pack_bytes, unpack
from ._errors import ConfigError, ConfigErrors, RetryLater
from ._object import decode
from ._program import Program, ProgramKind, Refused, Server
from ._reply import DROP, FAIL, pack_headers, pack_topics


@dataclass(frozen=True)
class Given:
    """A record that a plugin gets."""

    value: Optional[bytes] = b""
    key: Optional[bytes] = None
    headers: Sequence[Header] = ()
    timestamp: int = 0  # milliseconds since the Unix epoch
    topic: str = "test"
    partition: int = PARTITION_ANY
    source: Source = Source("test", "", "", "localhost", 0)


@dataclass(frozen=True)
class Outcome(Given):
    """What became of a record. One that was dropped or failed is as it was."""

    dropped: bool = False
    failure: Optional[Tuple[str, str]] = None  # code and message
    object: Any = None  # what a value that is an object holds
    changed: bool = field(default=False, compare=False)  # whether the plugin set anything


def handle(
    plugin_class: type,
    records: Sequence[Given],
    config: Optional[Mapping[str, Any]] = None,
    role: Role = Role.VALUE,
    topology: Optional[Mapping[str, int]] = None,
) -> List[Outcome]:
    """Lets a fresh plugin handle one batch.

    Raises ConfigErrors for a configuration that it refuses and RetryLater where it
    asks for that; any other exception of the plugin reaches the test as it is.
    """
    server = Server(Program(_kind_of(plugin_class), "test", "0.0.0", plugin_class))
    reply = server.configure(
        pb.ConfigureRequest(
            config=json.dumps(dict(config or {})), role=pb.ROLE_KEY if role is Role.KEY else pb.ROLE_VALUE
        )
    )
    if reply.errors:
        raise ConfigErrors([ConfigError(e.pointer, e.message) for e in reply.errors])
    server.update_topology(
        pb.Topology(topics=[pb.TopicPartitions(topic=t, partitions=n) for t, n in (topology or {}).items()])
    )
    try:
        answer = server.answer(_frame(records, reply.reads))
    except Refused as refused:
        raise refused.__cause__ or refused from None
    server.close()
    if answer.HasField("retry_later"):
        raise RetryLater(answer.retry_later.reason, answer.retry_later.after_ms / 1000)
    return _outcomes(records, answer)


def _kind_of(plugin_class: type) -> ProgramKind:
    kinds = [kind for kind in ProgramKind if hasattr(plugin_class, kind.method)]
    if len(kinds) != 1:
        raise TypeError(f"{plugin_class.__name__} has not one of the methods " + ", ".join(k.method for k in ProgramKind))
    return kinds[0]


def _frame(records: Sequence[Given], reads: pb.ColumnSet) -> pb.Batch:
    batch = pb.Batch(id=1, count=len(records))
    if reads.value:
        batch.value.CopyFrom(pack_bytes([r.value for r in records]))
    if reads.key:
        batch.key.CopyFrom(pack_bytes([r.key for r in records]))
    if reads.headers:
        batch.headers.CopyFrom(pack_headers([r.headers for r in records]))
    if reads.timestamp:
        batch.timestamps = pack("q", [r.timestamp for r in records])
    if reads.topic:
        batch.topic.CopyFrom(pack_topics([r.topic for r in records]))
    if reads.partition:
        batch.partitions = pack("i", [r.partition for r in records])
    if reads.source:
        for r in records:
            batch.source.runs.add(count=1, kind=r.source.kind, file=r.source.file, peer=r.source.peer, host=r.source.host)
        batch.source.offsets = pack("q", [r.source.offset for r in records])
    return batch


def _outcomes(records: Sequence[Given], reply: pb.Reply) -> List[Outcome]:
    changes: List[Dict[str, Any]] = [{} for _ in records]
    for name, change in (("value", reply.value), ("key", reply.key)):
        rows = _rows(change.rows, len(records)) if reply.HasField(name) else []
        column = ByteColumn(change.column, len(rows), OBJECT)
        for n, row in enumerate(rows):
            changes[row][name] = column.get(n)
            if column.kind(n) == OBJECT:
                changes[row]["object"] = decode(column.get(n) or b"")
    if reply.HasField("headers"):
        _change_headers(changes, reply.headers)
    for name, typecode, numbers in (("timestamp", "q", reply.timestamps), ("partition", "i", reply.partitions)):
        for row, number in zip(_rows(numbers.rows, len(records)), unpack(typecode, numbers.values)):
            changes[row][name] = number
    for row, index in zip(_rows(reply.topic.rows, len(records)), unpack("H", reply.topic.topic.index)):
        changes[row]["topic"] = reply.topic.topic.topics[index]
    failures = {f.row: (f.code, f.message) for f in reply.failures}
    return [_outcome(r, changes[i], reply.verdicts[i] if reply.verdicts else 0, failures.get(i)) for i, r in enumerate(records)]


def _outcome(given: Given, changes: Dict[str, Any], verdict: int, failure: Optional[Tuple[str, str]]) -> Outcome:
    as_given = Outcome(**{name: getattr(given, name) for name in Given.__dataclass_fields__})
    if verdict == FAIL or verdict == DROP:
        return replace(as_given, dropped=verdict == DROP, failure=failure)
    return replace(as_given, changed=bool(changes), **changes)


def _rows(packed: bytes, count: int) -> Sequence[int]:
    return unpack("I", packed) if packed else range(count)


def _change_headers(changes: List[Dict[str, Any]], change: pb.HeaderChange) -> None:
    counts = unpack("I", change.headers.counts)
    total = sum(counts)
    names = ByteColumn(change.headers.names, total, 0).all()
    values = ByteColumn(change.headers.values, total, NULL).all()
    flat = [((name or b"").decode("utf-8", "surrogateescape"), value) for name, value in zip(names, values)]
    at = 0
    for row, count in zip(_rows(change.rows, len(changes)), counts):
        changes[row]["headers"] = flat[at : at + count]
        at += count


__all__ = ["Given", "Outcome", "handle"]
