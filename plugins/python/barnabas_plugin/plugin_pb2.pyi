from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StageKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_KIND_UNSPECIFIED: _ClassVar[StageKind]
    STAGE_KIND_INTERCEPTOR: _ClassVar[StageKind]
    STAGE_KIND_SERIALIZER: _ClassVar[StageKind]
    STAGE_KIND_PARTITIONER: _ClassVar[StageKind]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_VALUE: _ClassVar[Role]
    ROLE_KEY: _ClassVar[Role]

class MetricKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_KIND_UNSPECIFIED: _ClassVar[MetricKind]
    METRIC_KIND_COUNTER: _ClassVar[MetricKind]
    METRIC_KIND_GAUGE: _ClassVar[MetricKind]
STAGE_KIND_UNSPECIFIED: StageKind
STAGE_KIND_INTERCEPTOR: StageKind
STAGE_KIND_SERIALIZER: StageKind
STAGE_KIND_PARTITIONER: StageKind
ROLE_VALUE: Role
ROLE_KEY: Role
METRIC_KIND_UNSPECIFIED: MetricKind
METRIC_KIND_COUNTER: MetricKind
METRIC_KIND_GAUGE: MetricKind

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ColumnSet(_message.Message):
    __slots__ = ("value", "key", "headers", "timestamp", "topic", "partition", "source")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    value: bool
    key: bool
    headers: bool
    timestamp: bool
    topic: bool
    partition: bool
    source: bool
    def __init__(self, value: bool = ..., key: bool = ..., headers: bool = ..., timestamp: bool = ..., topic: bool = ..., partition: bool = ..., source: bool = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Description(_message.Message):
    __slots__ = ("name", "kind", "version", "protocol_versions", "reads", "writes", "config_schema", "may_drop", "wants_acknowledgements", "wants_topology", "deterministic", "accepts_objects")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    CONFIG_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    MAY_DROP_FIELD_NUMBER: _ClassVar[int]
    WANTS_ACKNOWLEDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    WANTS_TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    ACCEPTS_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: StageKind
    version: str
    protocol_versions: _containers.RepeatedScalarFieldContainer[int]
    reads: ColumnSet
    writes: ColumnSet
    config_schema: str
    may_drop: bool
    wants_acknowledgements: bool
    wants_topology: bool
    deterministic: bool
    accepts_objects: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[StageKind, str]] = ..., version: _Optional[str] = ..., protocol_versions: _Optional[_Iterable[int]] = ..., reads: _Optional[_Union[ColumnSet, _Mapping]] = ..., writes: _Optional[_Union[ColumnSet, _Mapping]] = ..., config_schema: _Optional[str] = ..., may_drop: bool = ..., wants_acknowledgements: bool = ..., wants_topology: bool = ..., deterministic: bool = ..., accepts_objects: bool = ...) -> None: ...

class ConfigureRequest(_message.Message):
    __slots__ = ("validate_only", "config", "pipeline", "stage", "role", "host")
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    validate_only: bool
    config: str
    pipeline: str
    stage: str
    role: Role
    host: str
    def __init__(self, validate_only: bool = ..., config: _Optional[str] = ..., pipeline: _Optional[str] = ..., stage: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., host: _Optional[str] = ...) -> None: ...

class ConfigureReply(_message.Message):
    __slots__ = ("errors", "reads", "writes")
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    errors: _containers.RepeatedCompositeFieldContainer[ConfigError]
    reads: ColumnSet
    writes: ColumnSet
    def __init__(self, errors: _Optional[_Iterable[_Union[ConfigError, _Mapping]]] = ..., reads: _Optional[_Union[ColumnSet, _Mapping]] = ..., writes: _Optional[_Union[ColumnSet, _Mapping]] = ...) -> None: ...

class ConfigError(_message.Message):
    __slots__ = ("pointer", "message")
    POINTER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    pointer: str
    message: str
    def __init__(self, pointer: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Topology(_message.Message):
    __slots__ = ("topics",)
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[TopicPartitions]
    def __init__(self, topics: _Optional[_Iterable[_Union[TopicPartitions, _Mapping]]] = ...) -> None: ...

class TopicPartitions(_message.Message):
    __slots__ = ("topic", "partitions", "unavailable")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partitions: int
    unavailable: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, topic: _Optional[str] = ..., partitions: _Optional[int] = ..., unavailable: _Optional[_Iterable[int]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("data", "offsets", "lengths", "kinds")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offsets: bytes
    lengths: bytes
    kinds: bytes
    def __init__(self, data: _Optional[bytes] = ..., offsets: _Optional[bytes] = ..., lengths: _Optional[bytes] = ..., kinds: _Optional[bytes] = ...) -> None: ...

class HeaderColumn(_message.Message):
    __slots__ = ("counts", "names", "values")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    counts: bytes
    names: Column
    values: Column
    def __init__(self, counts: _Optional[bytes] = ..., names: _Optional[_Union[Column, _Mapping]] = ..., values: _Optional[_Union[Column, _Mapping]] = ...) -> None: ...

class TopicColumn(_message.Message):
    __slots__ = ("topics", "index")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedScalarFieldContainer[str]
    index: bytes
    def __init__(self, topics: _Optional[_Iterable[str]] = ..., index: _Optional[bytes] = ...) -> None: ...

class SourceColumn(_message.Message):
    __slots__ = ("runs", "offsets")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[SourceRun]
    offsets: bytes
    def __init__(self, runs: _Optional[_Iterable[_Union[SourceRun, _Mapping]]] = ..., offsets: _Optional[bytes] = ...) -> None: ...

class SourceRun(_message.Message):
    __slots__ = ("count", "kind", "file", "peer", "host")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    count: int
    kind: str
    file: str
    peer: str
    host: str
    def __init__(self, count: _Optional[int] = ..., kind: _Optional[str] = ..., file: _Optional[str] = ..., peer: _Optional[str] = ..., host: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("id", "attempt", "timeout_ms", "count", "value", "key", "headers", "timestamps", "topic", "partitions", "source", "lane")
    ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    id: int
    attempt: int
    timeout_ms: int
    count: int
    value: Column
    key: Column
    headers: HeaderColumn
    timestamps: bytes
    topic: TopicColumn
    partitions: bytes
    source: SourceColumn
    lane: int
    def __init__(self, id: _Optional[int] = ..., attempt: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., count: _Optional[int] = ..., value: _Optional[_Union[Column, _Mapping]] = ..., key: _Optional[_Union[Column, _Mapping]] = ..., headers: _Optional[_Union[HeaderColumn, _Mapping]] = ..., timestamps: _Optional[bytes] = ..., topic: _Optional[_Union[TopicColumn, _Mapping]] = ..., partitions: _Optional[bytes] = ..., source: _Optional[_Union[SourceColumn, _Mapping]] = ..., lane: _Optional[int] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("id", "count", "verdicts", "failures", "value", "key", "headers", "timestamps", "topic", "partitions", "retry_later")
    ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    RETRY_LATER_FIELD_NUMBER: _ClassVar[int]
    id: int
    count: int
    verdicts: bytes
    failures: _containers.RepeatedCompositeFieldContainer[Failure]
    value: ColumnChange
    key: ColumnChange
    headers: HeaderChange
    timestamps: NumberChange
    topic: TopicChange
    partitions: NumberChange
    retry_later: RetryLater
    def __init__(self, id: _Optional[int] = ..., count: _Optional[int] = ..., verdicts: _Optional[bytes] = ..., failures: _Optional[_Iterable[_Union[Failure, _Mapping]]] = ..., value: _Optional[_Union[ColumnChange, _Mapping]] = ..., key: _Optional[_Union[ColumnChange, _Mapping]] = ..., headers: _Optional[_Union[HeaderChange, _Mapping]] = ..., timestamps: _Optional[_Union[NumberChange, _Mapping]] = ..., topic: _Optional[_Union[TopicChange, _Mapping]] = ..., partitions: _Optional[_Union[NumberChange, _Mapping]] = ..., retry_later: _Optional[_Union[RetryLater, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("row", "code", "message")
    ROW_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    row: int
    code: str
    message: str
    def __init__(self, row: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RetryLater(_message.Message):
    __slots__ = ("reason", "after_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    after_ms: int
    def __init__(self, reason: _Optional[str] = ..., after_ms: _Optional[int] = ...) -> None: ...

class ColumnChange(_message.Message):
    __slots__ = ("rows", "column")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    column: Column
    def __init__(self, rows: _Optional[bytes] = ..., column: _Optional[_Union[Column, _Mapping]] = ...) -> None: ...

class HeaderChange(_message.Message):
    __slots__ = ("rows", "headers")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    headers: HeaderColumn
    def __init__(self, rows: _Optional[bytes] = ..., headers: _Optional[_Union[HeaderColumn, _Mapping]] = ...) -> None: ...

class NumberChange(_message.Message):
    __slots__ = ("rows", "values")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    values: bytes
    def __init__(self, rows: _Optional[bytes] = ..., values: _Optional[bytes] = ...) -> None: ...

class TopicChange(_message.Message):
    __slots__ = ("rows", "topic")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    topic: TopicColumn
    def __init__(self, rows: _Optional[bytes] = ..., topic: _Optional[_Union[TopicColumn, _Mapping]] = ...) -> None: ...

class Acknowledgements(_message.Message):
    __slots__ = ("ranges", "dropped")
    RANGES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[Acknowledgement]
    dropped: int
    def __init__(self, ranges: _Optional[_Iterable[_Union[Acknowledgement, _Mapping]]] = ..., dropped: _Optional[int] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("topic", "partition", "first_offset", "count", "error")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    first_offset: int
    count: int
    error: str
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., first_offset: _Optional[int] = ..., count: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class MetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MetricsReply(_message.Message):
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    def __init__(self, metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "help", "kind", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HELP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    help: str
    kind: MetricKind
    value: float
    def __init__(self, name: _Optional[str] = ..., help: _Optional[str] = ..., kind: _Optional[_Union[MetricKind, str]] = ..., value: _Optional[float] = ...) -> None: ...
