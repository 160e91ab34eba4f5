"""What a plugin changes in one batch."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import plugin_pb2 as pb
from ._columns import BYTES, NULL, OBJECT, pack, pack_bytes

KEEP, DROP, FAIL = 0, 1, 2  # verdicts


class Edits(Dict[int, Any]):
    """The replaced cells of one column, by record."""

    def rows(self, count: int) -> Tuple[bytes, List[Any]]:
        """Returns the packed list of rows, empty where all are replaced, and their cells."""
        if len(self) == count:
            return b"", [self[i] for i in range(count)]
        rows = sorted(self)
        return pack("I", rows), [self[i] for i in rows]


class Reply:
    """Collects what a plugin changes in one batch of count records."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.verdicts: Optional[bytearray] = None  # None: all kept
        self.failures: Dict[int, Tuple[str, str]] = {}
        self.values, self.keys = Edits(), Edits()
        self.objects: Dict[int, None] = {}  # records whose replaced value is an object
        self.headers, self.timestamps, self.topics, self.partitions = Edits(), Edits(), Edits(), Edits()

    def verdict(self, i: int) -> int:
        return self.verdicts[i] if self.verdicts else KEEP

    def drop(self, i: int) -> None:
        """A record that was refused stays refused."""
        if self.verdict(i) != FAIL:
            self._decide(i, DROP)

    def fail(self, i: int, code: str, message: str) -> None:
        self._decide(i, FAIL)
        self.failures[i] = code, message

    def _decide(self, i: int, verdict: int) -> None:
        if self.verdicts is None:
            self.verdicts = bytearray(self.count)
        self.verdicts[i] = verdict

    def build(self, batch_id: int) -> pb.Reply:
        """Returns the message: only what changed."""
        message = pb.Reply(id=batch_id, count=self.count)
        if self.verdicts is not None:
            message.verdicts = bytes(self.verdicts)
            for row in sorted(self.failures):
                code, text = self.failures[row]
                message.failures.add(row=row, code=code, message=text)
        self._build_bytes(message.value, self.values, self.objects)
        self._build_bytes(message.key, self.keys, {})
        if self.headers:
            rows, cells = self.headers.rows(self.count)
            message.headers.CopyFrom(pb.HeaderChange(rows=rows, headers=pack_headers(cells)))
        if self.timestamps:
            rows, cells = self.timestamps.rows(self.count)
            message.timestamps.CopyFrom(pb.NumberChange(rows=rows, values=pack("q", cells)))
        if self.partitions:
            rows, cells = self.partitions.rows(self.count)
            message.partitions.CopyFrom(pb.NumberChange(rows=rows, values=pack("i", cells)))
        if self.topics:
            rows, cells = self.topics.rows(self.count)
            message.topic.CopyFrom(pb.TopicChange(rows=rows, topic=pack_topics(cells)))
        return message

    def _build_bytes(self, change: pb.ColumnChange, edits: Edits, objects: Dict[int, None]) -> None:
        if not edits:
            return
        change.rows, cells = edits.rows(self.count)
        kinds = None
        if objects:
            kinds = [NULL if edits[i] is None else OBJECT if i in objects else BYTES for i in sorted(edits)]
        change.column.CopyFrom(pack_bytes(cells, kinds))


def pack_headers(rows: Sequence[Sequence[Tuple[str, Optional[bytes]]]]) -> pb.HeaderColumn:
    """Packs the headers of records, flat and in order."""
    flat = [header for headers in rows for header in headers]
    return pb.HeaderColumn(
        counts=pack("I", map(len, rows)),
        names=pack_bytes([name.encode("utf-8", "surrogateescape") for name, _ in flat]),
        values=pack_bytes([value for _, value in flat]),
    )


def pack_topics(topics: Sequence[str]) -> pb.TopicColumn:
    """Packs topics as a dictionary."""
    known: Dict[str, int] = {}
    index = [known.setdefault(topic, len(known)) for topic in topics]
    return pb.TopicColumn(topics=list(known), index=pack("H", index))
