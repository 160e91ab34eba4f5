"""One record of a batch at a time."""

from __future__ import annotations

import traceback
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from ._batch import Batch, Header, Kind, Source
from ._errors import Mistake, Refusal, RetryLater


class Record:
    """One record of a batch, as each_record hands it out. Its methods are those of Batch for that record."""

    __slots__ = ("_batch", "_i")

    def __init__(self, batch: Batch, i: int) -> None:
        self._batch = batch
        self._i = i

    def value(self) -> Optional[bytes]:
        return self._batch.value(self._i)

    def value_kind(self) -> Kind:
        return self._batch.value_kind(self._i)

    def key(self) -> Optional[bytes]:
        return self._batch.key(self._i)

    def key_kind(self) -> Kind:
        return self._batch.key_kind(self._i)

    def headers(self) -> List[Header]:
        return self._batch.headers(self._i)

    def header(self, name: str) -> Optional[bytes]:
        return self._batch.header(self._i, name)

    def timestamp(self) -> int:
        return self._batch.timestamp(self._i)

    def topic(self) -> str:
        return self._batch.topic(self._i)

    def partition(self) -> int:
        return self._batch.partition(self._i)

    def source(self) -> Source:
        return self._batch.source(self._i)

    def object(self) -> Any:
        return self._batch.object(self._i)

    def payload(self) -> Optional[bytes]:
        return self._batch.payload(self._i)

    def payload_kind(self) -> Kind:
        return self._batch.payload_kind(self._i)

    def payload_object(self) -> Any:
        return self._batch.payload_object(self._i)

    def set_value(self, value: Optional[bytes]) -> None:
        self._batch.set_value(self._i, value)

    def set_object(self, value: Any) -> None:
        self._batch.set_object(self._i, value)

    def set_key(self, key: Optional[bytes]) -> None:
        self._batch.set_key(self._i, key)

    def set_headers(self, headers: Sequence[Header]) -> None:
        self._batch.set_headers(self._i, headers)

    def set_timestamp(self, milliseconds: int) -> None:
        self._batch.set_timestamp(self._i, milliseconds)

    def set_topic(self, topic: str) -> None:
        self._batch.set_topic(self._i, topic)

    def set_partition(self, partition: int) -> None:
        self._batch.set_partition(self._i, partition)

    def set_payload(self, payload: Optional[bytes]) -> None:
        self._batch.set_payload(self._i, payload)

    def drop(self) -> None:
        self._batch.drop(self._i)

    def dropped(self) -> bool:
        return self._batch.dropped(self._i)

    def failure(self) -> Optional[Tuple[str, str]]:
        return self._batch.failure(self._i)

    def fail(self, why: Union[BaseException, str], code: str = "refused") -> None:
        self._batch.fail(self._i, why, code)


_MAX_TRACEBACK = 4096  # characters; the reason stands at its end


def each_record(batch: Batch, function: Callable[[Record], None]) -> None:
    """Calls a function for every record of a batch.

    An exception of the function refuses that record, and the others go on: a
    Refusal with its own code, any other with the code "exception" and the
    traceback. RetryLater, Mistake and MemoryError are raised on.
    """
    for i in range(len(batch)):
        try:
            function(Record(batch, i))
        except (RetryLater, Mistake, MemoryError):
            raise
        except Refusal as refusal:
            batch.fail(i, refusal)
        except Exception:
            batch.fail(i, traceback.format_exc()[-_MAX_TRACEBACK:], code="exception")
