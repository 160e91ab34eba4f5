"""The records that one call of a plugin handles."""

from __future__ import annotations

import enum
import time
from array import array
from bisect import bisect_right
from itertools import accumulate
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _object
from . import plugin_pb2 as pb
from ._columns import BYTES, NULL, OBJECT, ByteColumn, Columns, ColumnSet, names_of, unpack
from ._errors import Mistake, Refusal
from ._reply import DROP, FAIL, Edits, Reply

MAX_RECORDS = 4096  # of a batch

# Plain numbers: an operation on a member of an IntFlag takes longer than reading a record.
_VALUE, _KEY, _HEADERS, _TIMESTAMP, _TOPIC, _PARTITION, _SOURCE = (1 << bit for bit in range(7))
PARTITION_ANY = -1  # no partition is chosen

Header = Tuple[str, Optional[bytes]]  # name and value; the value None is null


class Kind(enum.IntEnum):
    """What a value or a key is."""

    BYTES = BYTES
    NULL = NULL
    OBJECT = OBJECT


class Role(enum.Enum):
    """Which payload a serializer serializes."""

    VALUE = "value"
    KEY = "key"


class Source(NamedTuple):
    """Where a record comes from, and where in its source it begins."""

    kind: str
    file: str
    peer: str
    host: str
    offset: int


class Stage(NamedTuple):
    """What a configured plugin may do."""

    columns: Columns
    role: Role = Role.VALUE
    may_drop: bool = False
    may_set_object: bool = False
    accepts_objects: bool = True
    concurrent: bool = False


class Batch:
    """The records that one call of a plugin handles, by index from 0.

    Reading a column after it was set returns what was set. Reading or setting a
    column that the plugin's columns() leaves out raises Mistake. Bytes that it
    returns may be kept. It belongs to the call: do not use it afterwards.
    """

    def __init__(self, message: pb.Batch, stage: Stage) -> None:
        if message.count > MAX_RECORDS:
            raise ValueError(f"{message.count} records, more than {MAX_RECORDS}")
        self._stage = stage
        self._count: int = message.count
        self._message = message
        self._reply = Reply(self._count)
        self._began = time.monotonic()
        self._present = _present(message)
        self._writes = int(stage.columns.writes)
        self._values = self._bytes("value")
        self._keys = self._bytes("key")
        self._headers: Optional[List[List[Header]]] = None
        self._timestamps = self._numbers("timestamps", "q", _TIMESTAMP)
        self._partitions = self._numbers("partitions", "i", _PARTITION)
        self._topic_names, self._topic_index = self._decode_topics()
        self._run_ends: List[int] = []
        self._offsets = self._decode_source()

    def __len__(self) -> int:
        """Returns how many records the batch holds."""
        return self._count

    @property
    def role(self) -> Role:
        """Which payload a serializer serializes."""
        return self._stage.role

    def remaining(self) -> float:
        """Returns the seconds until the agent gives this call up and ends the process."""
        limit: int = self._message.timeout_ms
        return self._began + limit / 1000 - time.monotonic() if limit else float("inf")

    # Reading one record.

    def value(self, i: int) -> Optional[bytes]:
        """Returns the value, None when it is null."""
        self._must_read(_VALUE)
        return self._reply.values[i] if i in self._reply.values else self._values.get(i)

    def value_kind(self, i: int) -> Kind:
        self._must_read(_VALUE)
        return self._kind(i, self._values, self._reply.values, self._reply.objects)

    def key(self, i: int) -> Optional[bytes]:
        """Returns the key, None when it is null."""
        self._must_read(_KEY)
        return self._reply.keys[i] if i in self._reply.keys else self._keys.get(i)

    def key_kind(self, i: int) -> Kind:
        self._must_read(_KEY)
        return self._kind(i, self._keys, self._reply.keys, {})

    def headers(self, i: int) -> List[Header]:
        """Returns the headers in their order; do not change the list."""
        self._must_read(_HEADERS)
        if i in self._reply.headers:
            return self._reply.headers[i]
        if self._headers is None:
            self._headers = self._decode_headers()
        return self._headers[i]

    def header(self, i: int, name: str) -> Optional[bytes]:
        """Returns the value of the last header of that name, as Kafka does; None when there is none or it is null."""
        for header, value in reversed(self.headers(i)):
            if header == name:
                return value
        return None

    def timestamp(self, i: int) -> int:
        """Returns the timestamp in milliseconds since the Unix epoch."""
        self._must_read(_TIMESTAMP)
        return self._reply.timestamps[i] if i in self._reply.timestamps else self._timestamps[i]

    def topic(self, i: int) -> str:
        """Returns the topic that the record goes to."""
        self._must_read(_TOPIC)
        if i in self._reply.topics:
            return self._reply.topics[i]
        self._must_have(i)
        return self._topic_names[self._topic_index[i] if self._topic_index else 0]

    def partition(self, i: int) -> int:
        """Returns the partition, PARTITION_ANY while none is chosen."""
        self._must_read(_PARTITION)
        return self._reply.partitions[i] if i in self._reply.partitions else self._partitions[i]

    def source(self, i: int) -> Source:
        """Returns where the record comes from."""
        self._must_read(_SOURCE)
        self._must_have(i)
        run = self._message.source.runs[bisect_right(self._run_ends, i)]
        return Source(run.kind, run.file, run.peer, run.host, self._offsets[i])

    def object(self, i: int) -> Any:
        """Decodes the value, which must be an object (needs the package msgpack)."""
        return self._decode_object(self.value(i), self.value_kind(i))

    def payload(self, i: int) -> Optional[bytes]:
        """Returns what a serializer serializes: the value, or the key in a key serializer."""
        return self.key(i) if self.role is Role.KEY else self.value(i)

    def payload_kind(self, i: int) -> Kind:
        return self.key_kind(i) if self.role is Role.KEY else self.value_kind(i)

    def payload_object(self, i: int) -> Any:
        """Decodes the payload, which must be an object."""
        return self._decode_object(self.payload(i), self.payload_kind(i))

    # Reading a column at once, which costs a third of reading record by record.

    def values(self) -> List[Optional[bytes]]:
        """Returns the values of all records."""
        self._must_read(_VALUE)
        return _merged(self._values, self._reply.values)

    def keys(self) -> List[Optional[bytes]]:
        """Returns the keys of all records."""
        self._must_read(_KEY)
        return _merged(self._keys, self._reply.keys)

    def payloads(self) -> List[Optional[bytes]]:
        """Returns what a serializer serializes, of all records."""
        return self.keys() if self.role is Role.KEY else self.values()

    def column(self, column: ColumnSet) -> Tuple[memoryview, array, array, bytes]:
        """Returns ColumnSet.VALUE or KEY as it came: data, offsets, lengths and kinds.

        Record i is data[offsets[i] : offsets[i] + lengths[i]]. offsets and lengths
        are arrays of uint32, kinds holds a Kind per record and is empty where all
        are bytes. All of them can be given to numpy.frombuffer.
        """
        if column not in (ColumnSet.VALUE, ColumnSet.KEY):
            raise Mistake("column() returns VALUE or KEY")
        self._must_read(int(column))
        raw = self._values if column == ColumnSet.VALUE else self._keys
        return memoryview(raw.data), raw.offsets, raw.lengths, raw.kinds

    # Changing records.

    def set_value(self, i: int, value: Optional[bytes]) -> None:
        """Replaces the value; None makes it null: a tombstone."""
        self._must_write(_VALUE, i)
        self._reply.values[i] = value if type(value) is bytes else _own(value)
        if self._reply.objects:
            self._reply.objects.pop(i, None)

    def set_object(self, i: int, value: Any) -> None:
        """Makes the value an object, for a serializer to serialize (needs the package msgpack)."""
        self._must_write(_VALUE, i)
        if not self._stage.may_set_object:
            raise Mistake("only an interceptor may set an object")
        self._reply.values[i] = _object.encode(value)
        self._reply.objects[i] = None

    def set_key(self, i: int, key: Optional[bytes]) -> None:
        """Replaces the key; None makes it null."""
        self._must_write(_KEY, i)
        self._reply.keys[i] = _own(key)

    def set_headers(self, i: int, headers: Sequence[Header]) -> None:
        """Replaces all headers."""
        self._must_write(_HEADERS, i)
        for name, _ in headers:
            if not isinstance(name, str):
                raise Mistake(f"a header's name is a str, not {type(name).__name__}")
        self._reply.headers[i] = [(name, _own(value)) for name, value in headers]

    def set_timestamp(self, i: int, milliseconds: int) -> None:
        """Replaces the timestamp: milliseconds since the Unix epoch."""
        self._must_write(_TIMESTAMP, i)
        self._reply.timestamps[i] = _integer(milliseconds, 63)

    def set_topic(self, i: int, topic: str) -> None:
        """Sends the record to another topic; the agent refuses it when its configuration does not allow that."""
        self._must_write(_TOPIC, i)
        if not isinstance(topic, str):
            raise Mistake(f"a topic is a str, not {type(topic).__name__}")
        self._reply.topics[i] = topic

    def set_partition(self, i: int, partition: int) -> None:
        """Chooses the partition; PARTITION_ANY leaves it to the producer. A number below that refuses the record."""
        self._must_write(_PARTITION, i)
        if _integer(partition, 31) < PARTITION_ANY:
            self.fail(i, Refusal("partition.negative", f"partition {partition}"))
            return
        self._reply.partitions[i] = partition

    def set_payload(self, i: int, payload: Optional[bytes]) -> None:
        """Replaces the payload: the value, or the key in a key serializer."""
        if self.role is Role.KEY:
            self.set_key(i, payload)
        else:
            self.set_value(i, payload)

    def set_values(self, values: Sequence[Optional[bytes]]) -> None:
        """Replaces the values of all records."""
        self._must_write(_VALUE)
        self._reply.values = self._all(values)
        self._reply.objects.clear()

    def set_keys(self, keys: Sequence[Optional[bytes]]) -> None:
        """Replaces the keys of all records."""
        self._must_write(_KEY)
        self._reply.keys = self._all(keys)

    def set_payloads(self, payloads: Sequence[Optional[bytes]]) -> None:
        """Replaces the payloads of all records."""
        if self.role is Role.KEY:
            self.set_keys(payloads)
        else:
            self.set_values(payloads)

    def drop(self, i: int) -> None:
        """Filters the record out: it counts as done and goes nowhere."""
        self._must_have(i)
        if not self._stage.may_drop:
            raise Mistake("the plugin drops a record; only an interceptor may, and not one whose may_drop is False")
        self._reply.drop(i)

    def fail(self, i: int, why: Union[BaseException, str], code: str = "refused") -> None:
        """Refuses the record, which goes by the stage's on_error as it was before the plugin.

        A Refusal brings its own code.
        """
        self._must_have(i)
        self._reply.fail(i, why.code if isinstance(why, Refusal) else code, _valid(str(why)))

    def dropped(self, i: int) -> bool:
        """Returns whether the record was dropped."""
        self._must_have(i)
        return self._reply.verdict(i) == DROP

    def failure(self, i: int) -> Optional[Tuple[str, str]]:
        """Returns code and message of the record's refusal, None where it was not refused."""
        self._must_have(i)
        return self._reply.failures[i] if self._reply.verdict(i) == FAIL else None

    # Decoding.

    def _bytes(self, name: str) -> Any:
        column = getattr(self._message, name)
        try:
            return ByteColumn(column, self._count, OBJECT) if self._message.HasField(name) and self._count else None
        except ValueError as error:
            raise ValueError(f"{name}s: {error}") from None

    def _numbers(self, name: str, typecode: str, column: int) -> Any:
        if not self._present & column:
            return None
        packed = getattr(self._message, name)
        if len(packed) != array(typecode).itemsize * self._count:
            raise ValueError(f"{name}: {len(packed)} bytes for {self._count} records")
        return unpack(typecode, packed)

    def _decode_headers(self) -> List[List[Header]]:
        message = self._message.headers
        if len(message.counts) != 4 * self._count:
            raise ValueError(f"headers: counts are not {self._count} numbers of 4 bytes")
        counts = unpack("I", message.counts)
        total = sum(counts)
        names = ByteColumn(message.names, total, BYTES).all()
        values = ByteColumn(message.values, total, NULL).all()
        flat = [(name.decode("utf-8", "surrogateescape"), value) for name, value in zip(names, values)]
        ends = list(accumulate(counts))
        return [flat[end - count : end] for end, count in zip(ends, counts)]

    def _decode_topics(self) -> Tuple[List[str], Any]:
        if not self._present & _TOPIC:
            return [], None
        names, index = list(self._message.topic.topics), unpack("H", self._message.topic.index)
        if not names or len(index) not in (0, self._count) or (index and max(index) >= len(names)):
            raise ValueError(f"topic: {len(names)} topics and {len(index)} numbers for {self._count} records")
        return names, index

    def _decode_source(self) -> Any:
        if not self._present & _SOURCE:
            return None
        self._run_ends = list(accumulate(run.count for run in self._message.source.runs))
        offsets = unpack("q", self._message.source.offsets)
        if len(offsets) != self._count or not self._run_ends or self._run_ends[-1] != self._count:
            raise ValueError(f"source: runs or offsets are not about {self._count} records")
        return offsets

    # Checks.

    def _must_read(self, column: int) -> None:
        if not self._present & column:
            raise Mistake(
                f"the plugin reads the column {names_of(column)}, which its columns() leaves out of what it reads"
                f" ({names_of(self._stage.columns.reads)})"
            )

    def _must_write(self, column: int, i: int = 0) -> None:
        if not self._writes & column:
            raise Mistake(
                f"the plugin sets the column {names_of(column)}, which its columns() leaves out of what it writes"
                f" ({names_of(self._stage.columns.writes)})"
            )
        if not 0 <= i < self._count:
            self._must_have(i)

    def _must_have(self, i: int) -> None:
        if not 0 <= i < self._count:
            raise Mistake(f"record {i} of a batch of {self._count}")

    def _all(self, cells: Sequence[Optional[bytes]]) -> Edits:
        if len(cells) != self._count:
            raise Mistake(f"{len(cells)} cells for a batch of {self._count}")
        return Edits(enumerate(map(_own, cells)))

    def _kind(self, i: int, column: ByteColumn, edits: Edits, objects: Dict[int, None]) -> Kind:
        if i not in edits:
            return Kind(column.kind(i))
        if edits[i] is None:
            return Kind.NULL
        return Kind.OBJECT if i in objects else Kind.BYTES

    def _decode_object(self, encoded: Optional[bytes], kind: Kind) -> Any:
        if kind is not Kind.OBJECT or encoded is None:
            raise Refusal("object.kind", f"not an object but {kind.name.lower()}")
        return _object.decode(encoded)


def _present(message: pb.Batch) -> int:
    """Returns the columns that a frame carries."""
    if message.count == 0:
        return 0
    present = 0
    for name, column in (
        ("value", _VALUE), ("key", _KEY), ("headers", _HEADERS), ("topic", _TOPIC), ("source", _SOURCE),
    ):
        present |= column if message.HasField(name) else 0
    present |= _TIMESTAMP if message.timestamps else 0
    return present | (_PARTITION if message.partitions else 0)


def _merged(column: ByteColumn, edits: Edits) -> List[Optional[bytes]]:
    cells = column.all()
    for i, cell in edits.items():
        cells[i] = cell
    return cells


def _own(cell: Optional[bytes]) -> Optional[bytes]:
    if cell is None or type(cell) is bytes:
        return cell
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    raise Mistake(f"values, keys and values of headers are bytes or None, not {type(cell).__name__}")


def _integer(number: int, bits: int) -> int:
    if not isinstance(number, int) or not -(1 << bits) <= number < 1 << bits:
        raise Mistake(f"{number!r} is no integer of {bits + 1} bits")
    return number


def _valid(text: str) -> str:
    """Returns what can be sent as UTF-8: a str may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
