"""Batches: what a plugin reads, what its reply says, and who pays for a mistake."""

import unittest

from barnabas_plugin import (
    PARTITION_ANY,
    Acknowledgement,
    Columns,
    ColumnSet,
    Counter,
    Gauge,
    Kind,
    Mistake,
    Refusal,
    RetryLater,
    Role,
    Source,
    each_record,
)
from barnabas_plugin import plugin_pb2 as pb
from barnabas_plugin._columns import pack, pack_bytes, unpack
from barnabas_plugin._program import Program, ProgramKind, Refused, Server
from barnabas_plugin.testing import Given, handle


def interceptor(function, **members):
    """Makes an interceptor of a function."""
    return type("Plugin", (), {"on_send": lambda self, batch: function(batch), **members})


FULL = Given(
    b"v", b"k", [("h", b"1"), ("h", None), ("", b"")], 1_700_000_000_000, "topic", 3, Source("file", "/a.log", "", "host", 42)
)


class ReadTest(unittest.TestCase):
    def test_every_column(self):
        seen = []

        def read(batch):
            for i in range(len(batch)):
                seen.append(
                    Given(batch.value(i), batch.key(i), batch.headers(i), batch.timestamp(i), batch.topic(i), batch.partition(i), batch.source(i))
                )
            self.assertEqual(batch.header(0, "h"), None)
            self.assertEqual(batch.header(0, ""), b"")
            self.assertEqual([batch.value_kind(0), batch.value_kind(1)], [Kind.BYTES, Kind.NULL])
            data, offsets, lengths, kinds = batch.column(ColumnSet.VALUE)
            self.assertEqual(bytes(data[offsets[2] : offsets[2] + lengths[2]]), b"\xff\x00")
            self.assertEqual(list(kinds), [Kind.BYTES, Kind.NULL, Kind.BYTES])

        given = [FULL, Given(None, None, []), Given(b"\xff\x00", b"", [("\udcff", b"x")])]
        outcomes = handle(interceptor(read), given)
        self.assertEqual(seen, given)
        self.assertFalse(any(o.changed for o in outcomes))

    def test_what_was_set_is_read(self):
        def change(batch):
            batch.set_value(0, bytearray(b"new"))
            batch.set_key(0, None)
            batch.set_headers(0, [("a", memoryview(b"b"))])
            batch.set_timestamp(0, 5)
            batch.set_topic(0, "other")
            batch.set_partition(0, 9)
            self.assertEqual((batch.value(0), batch.key(0), batch.key_kind(0)), (b"new", None, Kind.NULL))
            self.assertEqual((batch.headers(0), batch.timestamp(0)), ([("a", b"b")], 5))
            self.assertEqual((batch.topic(0), batch.partition(0)), ("other", 9))
            self.assertEqual(batch.values(), [b"new", b"v"])

        first, second = handle(interceptor(change), [FULL, FULL])
        self.assertEqual(
            (first.value, first.key, first.headers, first.timestamp, first.topic, first.partition),
            (b"new", None, [("a", b"b")], 5, "other", 9),
        )
        self.assertFalse(second.changed)

    def test_objects(self):
        def to_object(batch):
            batch.set_object(0, {"b": [1, None], "a": "ä"})
            self.assertEqual(batch.object(0), {"a": "ä", "b": [1, None]})
            batch.set_object(1, 1)
            batch.set_value(1, b"after all")

        first, second = handle(interceptor(to_object), [FULL, FULL])
        self.assertEqual(first.object, {"a": "ä", "b": [1, None]})
        self.assertEqual((second.value, second.object), (b"after all", None))

    def test_object_of_bytes_is_refused(self):
        (outcome,) = handle(interceptor(lambda b: each_record(b, lambda r: r.object())), [FULL])
        self.assertEqual(outcome.failure, ("object.kind", "not an object but bytes"))


class ReplyTest(unittest.TestCase):
    """Looks at the messages themselves."""

    def answer(self, function, count=3, **members):
        server = Server(Program(ProgramKind.INTERCEPTOR, "t", "1", interceptor(function, **members)))
        self.assertFalse(server.configure(pb.ConfigureRequest()).errors)
        batch = pb.Batch(id=7, count=count, timestamps=bytes(8 * count), partitions=bytes(4 * count))
        batch.value.CopyFrom(pack_bytes([b"v"] * count))
        batch.key.CopyFrom(pack_bytes([None] * count))
        batch.headers.counts = bytes(4 * count)
        batch.topic.topics.append("t")
        batch.source.runs.add(count=count)
        batch.source.offsets = bytes(8 * count)
        return server.answer(batch)

    def test_unmodified(self):
        self.assertEqual(self.answer(lambda b: None), pb.Reply(id=7, count=3))

    def test_only_changed_rows(self):
        reply = self.answer(lambda b: (b.set_value(2, b"z"), b.set_value(0, b"xy")))
        self.assertEqual(list(unpack("I", reply.value.rows)), [0, 2])
        self.assertEqual(reply.value.column, pb.Column(data=b"xyz", offsets=pack("I", [0, 2]), lengths=pack("I", [2, 1])))
        self.assertFalse(reply.HasField("key") or reply.verdicts)

    def test_no_rows_where_all_change(self):
        reply = self.answer(lambda b: b.set_keys([b"a", None, b""]))
        self.assertEqual(reply.key.rows, b"")
        self.assertEqual(reply.key.column.kinds, bytes([Kind.BYTES, Kind.NULL, Kind.BYTES]))

    def test_verdicts(self):
        def decide(batch):
            batch.drop(0)
            batch.fail(1, Refusal("my.code", "why"))
            batch.drop(1)

        reply = self.answer(decide)
        self.assertEqual((reply.verdicts, len(reply.failures)), (b"\x01\x02\x00", 1))
        self.assertEqual((reply.failures[0].row, reply.failures[0].code, reply.failures[0].message), (1, "my.code", "why"))

    def test_topics_are_a_dictionary(self):
        reply = self.answer(lambda b: [b.set_topic(i, "ab"[i % 2]) for i in range(3)])
        self.assertEqual(list(reply.topic.topic.topics), ["a", "b"])
        self.assertEqual(list(unpack("H", reply.topic.topic.index)), [0, 1, 0])

    def test_retry_later_gives_nothing_else(self):
        def later(batch):
            batch.set_value(0, b"x")
            raise RetryLater("registry is away", after=1.5)

        reply = self.answer(later)
        self.assertEqual((reply.retry_later.reason, reply.retry_later.after_ms, reply.HasField("value")), ("registry is away", 1500, False))

    def test_a_partition_below_any_refuses_the_record(self):
        reply = self.answer(lambda b: (b.set_partition(0, -2), b.set_partition(1, PARTITION_ANY)))
        self.assertEqual((reply.verdicts[0], reply.failures[0].code), (2, "partition.negative"))

    def test_frames_that_do_not_hold_together(self):
        server = Server(Program(ProgramKind.INTERCEPTOR, "t", "1", interceptor(lambda b: None, columns=lambda self: Columns())))
        server.configure(pb.ConfigureRequest())
        wrong_column = pb.Column(data=b"x", offsets=pack("I", [0]), lengths=pack("I", [2]))
        for wrong in (
            pb.Batch(count=1, value=wrong_column),
            pb.Batch(count=2, value=wrong_column),
            pb.Batch(count=5000),
            pb.Batch(count=1, timestamps=b"1234"),
            pb.Batch(count=1, topic=pb.TopicColumn()),
            pb.Batch(count=1, topic=pb.TopicColumn(topics=["a"], index=pack("H", [1]))),
            pb.Batch(count=2, source=pb.SourceColumn(runs=[pb.SourceRun(count=1)], offsets=bytes(16))),
        ):
            with self.subTest(wrong=wrong), self.assertRaises(Refused) as raised:
                server.answer(wrong)
            self.assertEqual(raised.exception.status, "INVALID_ARGUMENT")

    def test_a_canary_does_not_reach_the_plugin(self):
        def never(batch):
            raise AssertionError("called")

        self.assertEqual(self.answer(never, count=0), pb.Reply(id=7))


class MistakeTest(unittest.TestCase):
    def test_what_was_not_declared(self):
        value_only = {"columns": lambda self: Columns(reads=ColumnSet.VALUE, writes=ColumnSet.VALUE), "may_drop": False}
        for name, function in {
            "reads": lambda b: b.key(0),
            "writes": lambda b: b.set_key(0, b""),
            "drops": lambda b: b.drop(0),
            "no such record": lambda b: b.set_value(1, b""),
            "negative": lambda b: b.fail(-1, "x"),
            "text": lambda b: b.set_value(0, "text"),
            "too few": lambda b: b.set_values([]),
        }.items():
            with self.subTest(name), self.assertRaises(Mistake):
                handle(interceptor(function, **value_only), [FULL])
            with self.subTest(name + ", per record"), self.assertRaises(Mistake):
                handle(interceptor(lambda b, f=function: each_record(b, lambda r: f(b)), **value_only), [FULL])

    def test_a_serializer_sets_no_object(self):
        class Bad:
            def serialize(self, batch):
                batch.set_object(0, {})

        with self.assertRaises(Mistake):
            handle(Bad, [FULL])


class EachRecordTest(unittest.TestCase):
    def test_an_exception_refuses_its_record_alone(self):
        def upper(record):
            if record.value() == b"1":
                raise Refusal("no.ones", "a one")
            if record.value() == b"2":
                raise KeyError("two")
            record.set_value(record.value() * 2)

        got = handle(interceptor(lambda b: each_record(b, upper)), [Given(b"%d" % n) for n in range(4)])
        self.assertEqual([o.value for o in got], [b"00", b"1", b"2", b"33"])
        self.assertEqual(got[1].failure, ("no.ones", "a one"))
        self.assertEqual(got[2].failure[0], "exception")
        self.assertIn("KeyError: 'two'", got[2].failure[1])

    def test_retry_later_is_for_the_batch(self):
        def later(record):
            raise RetryLater("away")

        with self.assertRaises(RetryLater):
            handle(interceptor(lambda b: each_record(b, later)), [FULL])


class SerializerTest(unittest.TestCase):
    def test_objects_are_refused_unless_accepted(self):
        class Text:
            def serialize(self, batch):
                for i in range(len(batch)):
                    batch.set_payload(i, b"done")

        for accepts in (False, True):
            server = Server(Program(ProgramKind.SERIALIZER, "t", "1", type("T", (Text,), {"accepts_objects": accepts})))
            server.configure(pb.ConfigureRequest(role=pb.ROLE_KEY))
            batch = pb.Batch(id=1, count=2, key=pack_bytes([b"\x80", b"x"], [Kind.OBJECT, Kind.BYTES]))
            reply = server.answer(batch)
            self.assertEqual([f.code for f in reply.failures], [] if accepts else ["object.unsupported"])

    def test_role(self):
        class Seen:
            def serialize(self, batch):
                batch.set_payload(0, batch.role.value.encode())

        self.assertEqual(handle(Seen, [FULL], role=Role.KEY)[0].key, b"key")


    def test_a_payload_that_is_not_read_stays_away(self):
        class Blind:
            reads_payload = False

            def serialize(self, batch):
                batch.set_payloads([b"same"] * len(batch))

        self.assertEqual(handle(Blind, [FULL])[0].value, b"same")
        server = Server(Program(ProgramKind.SERIALIZER, "t", "1", Blind))
        reply = server.configure(pb.ConfigureRequest())
        self.assertEqual((reply.reads, reply.writes), (pb.ColumnSet(), pb.ColumnSet(value=True)))


class MetricsTest(unittest.TestCase):
    def test_what_the_agent_gets(self):
        words, depth = Counter("words_total", "Words."), Gauge("depth", "Depth.")
        server = Server(
            Program(ProgramKind.INTERCEPTOR, "t", "1", interceptor(lambda b: None, metrics=lambda self: [words, depth]))
        )
        self.assertEqual(server.metrics(pb.MetricsRequest()), pb.MetricsReply())
        server.configure(pb.ConfigureRequest())
        words.add()
        words.add(2)
        depth.set(5)
        depth.add(-1.5)
        got = server.metrics(pb.MetricsRequest()).metrics
        self.assertEqual(
            [(m.name, m.help, m.kind, m.value) for m in got],
            [("words_total", "Words.", pb.METRIC_KIND_COUNTER, 3), ("depth", "Depth.", pb.METRIC_KIND_GAUGE, 3.5)],
        )

    def test_names_that_the_agent_refuses(self):
        for make in (lambda: Counter("words", ""), lambda: Gauge("x_total", ""), lambda: Gauge("X", ""), lambda: Gauge("a" * 65, "")):
            with self.assertRaises(Mistake):
                make()
        for metrics in ([Gauge("a", ""), Gauge("a", "")], [Gauge(f"a{n}", "") for n in range(65)]):
            server = Server(
                Program(ProgramKind.INTERCEPTOR, "t", "1", interceptor(lambda b: None, metrics=lambda self, m=metrics: m))
            )
            with self.assertRaises(Mistake):
                server.configure(pb.ConfigureRequest())
        with self.assertRaises(Mistake):
            Counter("n_total", "").add(-1)


class StageTest(unittest.TestCase):
    def test_order_of_calls(self):
        calls = []
        members = {
            "configure": lambda self: calls.append("configure"),
            "on_topology": lambda self, t: calls.append(("topology", t.partitions("a"), t.available("a"), t.partitions("b"))),
            "close": lambda self: calls.append("close"),
        }
        server = Server(Program(ProgramKind.INTERCEPTOR, "t", "1", interceptor(lambda b: None, **members)))
        with self.assertRaises(Refused):
            server.answer(pb.Batch())
        server.update_topology(pb.Topology(topics=[pb.TopicPartitions(topic="a", partitions=3, unavailable=[1])]))
        server.configure(pb.ConfigureRequest(validate_only=True))
        server.configure(pb.ConfigureRequest())
        with self.assertRaises(Refused):
            server.configure(pb.ConfigureRequest())
        server.close()
        server.close()
        self.assertEqual(calls, ["configure", "configure", ("topology", 3, [0, 2], None), "close"])

    def test_acknowledgements(self):
        told = []
        members = {
            "on_acknowledgement": lambda self, ranges: told.append(ranges),
            "on_acknowledgement_loss": lambda self, records: told.append(records),
        }
        program = Program(ProgramKind.INTERCEPTOR, "t", "1", interceptor(lambda b: None, **members))
        self.assertTrue(program.describe().wants_acknowledgements)
        server = Server(program)
        server.configure(pb.ConfigureRequest())
        server.acknowledge(pb.Acknowledgements())
        one = pb.Acknowledgement(topic="t", partition=1, first_offset=7, count=2, error="")
        server.acknowledge(pb.Acknowledgements(ranges=[one], dropped=3))
        self.assertEqual(told, [3, [Acknowledgement("t", 1, 7, 2, "")]])

    def test_an_exception_of_the_plugin_ends_the_lane_with_its_reason(self):
        with self.assertRaises(ZeroDivisionError):
            handle(interceptor(lambda b: 1 // 0), [FULL])


if __name__ == "__main__":
    unittest.main()
