"""Columns: which of them a plugin uses, and how the protocol packs them."""

from __future__ import annotations

import enum
import sys
from array import array
from itertools import accumulate
from operator import add
from typing import Iterable, List, NamedTuple, Optional, Sequence

from . import plugin_pb2 as pb


class ColumnSet(enum.IntFlag):
    """A set of columns of a batch. Where a record comes from is never written."""

    NONE = 0
    VALUE = 1
    KEY = 2
    HEADERS = 4
    TIMESTAMP = 8
    TOPIC = 16
    PARTITION = 32
    SOURCE = 64
    ALL = 127
    WRITABLE = 63


class Columns(NamedTuple):
    """The columns that a plugin reads and writes; no others cross to its process."""

    reads: ColumnSet = ColumnSet.NONE
    writes: ColumnSet = ColumnSet.NONE


# In the order of the bits, as the protocol names them.
_NAMES = ("value", "key", "headers", "timestamp", "topic", "partition", "source")


def names_of(columns: int) -> str:
    """Lists columns for people, such as "value|topic"."""
    return "|".join(name for bit, name in enumerate(_NAMES) if columns >> bit & 1) or "none"


def message_of(columns: int) -> pb.ColumnSet:
    """Returns the set as the protocol carries it."""
    return pb.ColumnSet(**{name: True for bit, name in enumerate(_NAMES) if columns >> bit & 1})


def unpack(typecode: str, packed: bytes) -> array:
    """Reads little-endian numbers of a type of the module array."""
    numbers = array(typecode)
    numbers.frombytes(packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def pack(typecode: str, numbers: Iterable[int]) -> bytes:
    """Writes little-endian numbers."""
    packed = array(typecode, numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


BYTES, NULL, OBJECT = 0, 1, 2  # the kinds of a value, a key or a header's value


class ByteColumn:
    """One column of byte strings of a frame, read in place.

    Record i is data[offsets[i] : offsets[i] + lengths[i]]; kinds is empty where all are bytes.
    """

    __slots__ = ("data", "kinds", "lengths", "offsets")

    def __init__(self, message: pb.Column, count: int, greatest_kind: int) -> None:
        if len(message.offsets) != 4 * count or len(message.lengths) != 4 * count:
            raise ValueError(f"offsets or lengths are not {count} numbers of 4 bytes")
        self.data: bytes = message.data
        self.kinds: bytes = message.kinds
        self.offsets = unpack("I", message.offsets)
        self.lengths = unpack("I", message.lengths)
        if self.kinds and (len(self.kinds) != count or max(self.kinds) > greatest_kind):
            raise ValueError(f"kinds are not {count} numbers of at most {greatest_kind}")
        if count and max(map(add, self.offsets, self.lengths)) > len(self.data):
            raise ValueError("a record lies outside of the column's data")

    def kind(self, i: int) -> int:
        return self.kinds[i] if self.kinds else BYTES

    def get(self, i: int) -> Optional[bytes]:
        if self.kinds and self.kinds[i] == NULL:
            return None
        offset = self.offsets[i]
        return self.data[offset : offset + self.lengths[i]]

    def all(self) -> List[Optional[bytes]]:
        data = self.data
        if not self.kinds:
            return [data[at : at + n] for at, n in zip(self.offsets, self.lengths)]
        return [
            None if kind == NULL else data[at : at + n]
            for at, n, kind in zip(self.offsets, self.lengths, self.kinds)
        ]


def pack_bytes(cells: Sequence[Optional[bytes]], kinds: Optional[Sequence[int]] = None) -> pb.Column:
    """Packs byte strings, None for null. kinds is needed where a cell is an object."""
    if None in cells:
        if kinds is None:
            kinds = [NULL if cell is None else BYTES for cell in cells]
        cells = [b"" if cell is None else cell for cell in cells]
    lengths = array("I", map(len, cells))
    ends = array("I", accumulate(lengths))
    return pb.Column(
        data=b"".join(cells),
        offsets=pack("I", map(int.__sub__, ends, lengths)),
        lengths=pack("I", lengths),
        kinds=bytes(kinds) if kinds is not None and any(kinds) else b"",
    )
