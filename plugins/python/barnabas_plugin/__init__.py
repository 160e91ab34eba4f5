"""What a Barnabas plugin in Python is written with.

A plugin is a class, its configuration is the class's own fields, it has one
method that handles a batch of records, and its main is one line::

    from dataclasses import dataclass
    from barnabas_plugin import serve_interceptor, setting

    @dataclass
    class Shout:
        suffix: str = setting("!", description="Put after every value")

        def on_send(self, batch):
            for i in range(len(batch)):
                value = batch.value(i)
                if value is not None:
                    batch.set_value(i, value.upper() + self.suffix.encode())

    if __name__ == "__main__":
        serve_interceptor("shout", "1.0.0", Shout)

There are three kinds of plugins: an interceptor (`on_send`) changes, drops or
refuses records, a serializer (`serialize`) turns values or keys into the bytes
that Kafka stores, a partitioner (`partition`) chooses partitions. What else a
plugin may have is written at `barnabas_plugin.Program`.

A record that is not good enough is refused with `Batch.fail`, or by raising
`Refusal` under `each_record`: it goes by the stage's `on_error`, and the others go on. Any
other exception that the method itself raises says that the plugin is broken: it
is started anew and gets the same batch again. `RetryLater` says that something
the plugin needs is away for now.
"""

from ._batch import PARTITION_ANY, Batch, Header, Kind, Role, Source
from ._columns import Columns, ColumnSet
from ._config import setting
from ._errors import ConfigError, ConfigErrors, Mistake, Refusal, RetryLater
from ._metrics import Counter, Gauge
from ._program import Acknowledgement, Program
from ._record import Record, each_record
from ._serve import serve_interceptor, serve_partitioner, serve_serializer
from ._topology import Topology

__all__ = [
    "PARTITION_ANY",
    "Acknowledgement",
    "Batch",
    "ColumnSet",
    "Columns",
    "ConfigError",
    "ConfigErrors",
    "Counter",
    "Gauge",
    "Header",
    "Kind",
    "Mistake",
    "Program",
    "Record",
    "Refusal",
    "RetryLater",
    "Role",
    "Source",
    "Topology",
    "each_record",
    "serve_interceptor",
    "serve_partitioner",
    "serve_serializer",
    "setting",
]
