"""The process: the handshake, the calls of go-plugin's client, and the ways to the end."""

import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import grpc

from barnabas_plugin import _log, _serve
from barnabas_plugin import plugin_pb2 as pb
from barnabas_plugin._columns import pack_bytes

PLUGIN = """
import logging, os, sys
from barnabas_plugin import serve_interceptor

class Loud:
    def on_send(self, batch):
        value = batch.value(0)
        if value == b"log":
            print("to standard output")
            logging.getLogger("loud").warning("to the log", extra={"n": 1})
        elif value == b"raise":
            raise ValueError("the reason")
        batch.set_value(0, value + b"!")

    def close(self):
        print("closed", file=sys.stderr, flush=True)

serve_interceptor("loud", "1.0.0", Loud)
"""

TIMEOUT = 20  # seconds


class Plugin:
    """A plugin's process as go-plugin starts it."""

    def __init__(self, **environment):
        self.folder = tempfile.TemporaryDirectory()
        read, self.lifeline = os.pipe()
        environment = {
            _serve._COOKIE_KEY: _serve._COOKIE_VALUE,
            "PLUGIN_UNIX_SOCKET_DIR": self.folder.name,
            "PLUGIN_PROTOCOL_VERSIONS": "1,2",
            "BARNABAS_LIFELINE_FD": str(read),
            "PYTHONPATH": str(pathlib.Path(__file__).parents[1]),
            "PYTHONWARNINGS": "error",
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-c", PLUGIN],
            env=environment, pass_fds=(read,), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(read)

    def connect(self):
        self.handshake = self.process.stdout.readline().rstrip("\n").split("|")
        self.channel = grpc.insecure_channel("unix:" + self.handshake[3])
        return self

    def call(self, method, request=b""):
        return self.channel.unary_unary(method)(request, timeout=TIMEOUT, wait_for_ready=True)

    def plugin(self, method, request):
        return self.call("/barnabas.plugin.v1.Plugin/" + method, request.SerializeToString())

    def lane(self, *values):
        self.plugin("Configure", pb.ConfigureRequest(config="{}"))
        batches = [
            pb.Batch(
                id=n, count=1, value=pack_bytes([v]), key=pack_bytes([None]), headers=pb.HeaderColumn(counts=bytes(4)),
                timestamps=bytes(8), partitions=bytes(4), topic=pb.TopicColumn(topics=["t"]),
                source=pb.SourceColumn(runs=[pb.SourceRun(count=1)], offsets=bytes(8)),
            ).SerializeToString()
            for n, v in enumerate(values)
        ]  # fmt: skip
        replies = self.channel.stream_stream("/barnabas.plugin.v1.Plugin/Lane")(iter(batches), timeout=TIMEOUT)
        return [pb.Reply.FromString(reply) for reply in replies]

    def end(self):
        """Waits for the end and returns the exit code and what was printed."""
        if hasattr(self, "channel"):
            self.channel.close()
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        if self.lifeline is not None:
            os.close(self.lifeline)
        self.folder.cleanup()

    def cut(self):
        os.close(self.lifeline)
        self.lifeline = None


class HandshakeTest(unittest.TestCase):
    def test_by_hand(self):
        with Plugin(BARNABAS_PLUGIN_COOKIE="") as p:
            code, out, err = p.end()
        self.assertEqual((code, out), (1, ""))
        self.assertIn("is a Barnabas interceptor plugin. The agent starts it", err)
        self.assertIn("describe   prints what it is", err)

    def test_what_can_not_be_had(self):
        for environment, said in (
            ({"PLUGIN_PROTOCOL_VERSIONS": "2,3"}, "the agent speaks versions 2,3"),
            ({"PLUGIN_CLIENT_CERT": "x"}, "wants TLS"),
            ({"BARNABAS_LIFELINE_FD": "2"}, "lifeline is no file descriptor"),
            ({"BARNABAS_LIFELINE_FD": "x"}, "lifeline is no file descriptor"),
        ):
            with self.subTest(environment), Plugin(**environment) as p:
                code, out, err = p.end()
                self.assertEqual((code, out), (1, ""))
                self.assertIn(said, err)

    def test_line_and_socket(self):
        with Plugin() as p:
            p.connect()
            self.assertEqual(p.handshake[:3] + p.handshake[4:], ["1", "1", "unix", "grpc", ""])
            self.assertEqual(os.path.dirname(p.handshake[3]), p.folder.name)


class LifeTest(unittest.TestCase):
    def test_calls_of_go_plugin(self):
        with Plugin() as p:
            p.connect()
            self.assertEqual(p.call("/grpc.health.v1.Health/Check", b"\n\x06plugin"), b"\x08\x01")
            with self.assertRaises(grpc.RpcError) as raised:
                p.call("/grpc.health.v1.Health/Check", b"\n\x05other")
            self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)
            self.assertEqual(list(p.channel.unary_stream("/plugin.GRPCStdio/StreamStdio")(b"", timeout=TIMEOUT)), [])
            self.assertEqual(p.plugin("Close", pb.Empty()), b"")
            p.call("/plugin.GRPCController/Shutdown")
            self.assertEqual(p.end()[0], 0)

    def test_signals_do_not_end_it(self):
        with Plugin() as p:
            p.connect()
            for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                p.process.send_signal(ignored)
            self.assertEqual([r.value.column.data for r in p.lane(b"a", b"b")], [b"a!", b"b!"])

    def test_quit_shows_where_it_is(self):
        with Plugin() as p:
            p.connect()
            p.process.send_signal(signal.SIGQUIT)
            code, _, err = p.end()
        self.assertEqual(code, -signal.SIGQUIT)
        self.assertIn("(most recent call first)", err)

    def test_ends_with_the_agent(self):
        with Plugin() as p:
            p.connect()
            p.plugin("Configure", pb.ConfigureRequest())
            p.cut()
            code, _, err = p.end()
        self.assertEqual(code, 0)
        self.assertIn("closed", err)

    def test_an_exception_ends_the_lane_with_the_reason(self):
        with Plugin() as p, self.assertRaises(grpc.RpcError) as raised:
            p.connect().lane(b"raise")
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNKNOWN)
        self.assertIn("ValueError: the reason", raised.exception.details())

    def test_output(self):
        with Plugin() as p:
            p.connect().lane(b"log")
            p.cut()
            _, out, err = p.end()
        self.assertEqual(out, "to standard output\n")
        line = json.loads(err.splitlines()[0])
        self.assertEqual((line["@level"], line["@message"], line["logger"], line["n"]), ("warn", "to the log", "loud", 1))


class DebugTest(unittest.TestCase):
    def test_serves_whoever_attaches_until_it_is_interrupted(self):
        with Plugin() as p:
            p.process.kill()
            p.process.communicate()
            p.process = subprocess.Popen(
                [sys.executable, "-B", "-c", PLUGIN, "debug"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={"PYTHONPATH": str(pathlib.Path(__file__).parents[1])},
            )  # fmt: skip
            address = p.process.stdout.readline().split("unix://")[1].split(";")[0]
            p.channel = grpc.insecure_channel("unix:" + address)
            for _ in range(2):
                self.assertEqual([r.value.column.data for r in p.lane(b"a")], [b"a!"])
                p.plugin("Close", pb.Empty())
            p.process.send_signal(signal.SIGINT)
            code, _, err = p.end()
        self.assertEqual((code, err.count("closed")), (0, 2))
        self.assertFalse(os.path.exists(address))


class LogTest(unittest.TestCase):
    def test_levels(self):
        levels = {level: _log._name_of(level) for level in (1, 5, 10, 20, 25, 30, 40, 50)}
        self.assertEqual(
            levels, {1: "trace", 5: "trace", 10: "debug", 20: "info", 25: "info", 30: "warn", 40: "error", 50: "error"}
        )

    def test_exceptions_stay_on_one_line(self):
        try:
            raise ValueError("a\nb")
        except ValueError:
            record = logging.LogRecord("root", logging.ERROR, "", 0, "what %s", ("ever",), sys.exc_info())
        text = _log.Formatter().format(record)
        self.assertNotIn("\n", text)
        self.assertIn("ValueError: a\nb", json.loads(text)["exception"])


if __name__ == "__main__":
    unittest.main()
