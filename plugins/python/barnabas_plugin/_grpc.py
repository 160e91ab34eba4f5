"""The plugin's gRPC server: the protocol, and what go-plugin needs beside it."""

from __future__ import annotations

import threading
import traceback
from concurrent import futures
from typing import Any, Callable, Iterator, NoReturn

import grpc

from . import plugin_pb2 as pb
from ._program import Refused, Server

_MAX_MESSAGE = 32 << 20  # bytes, in both directions
_STREAM_WINDOW = 4 << 20  # bytes
_MAX_STREAMS = 64
_GRACE = 0.5  # seconds that calls may take to end at the end

_HEALTHY = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse{status: SERVING}
# grpc.health.v1.HealthCheckRequest{service: …}: of the server as a whole, and as go-plugin asks.
_CHECKED = (b"", b"\x0a\x06plugin")


class Endpoint:
    """The gRPC server at a unix socket. Its threads end with it."""

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._end = threading.Event()
        # A lane keeps a thread while it is open; threads are made as they are needed.
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(max_workers=_MAX_STREAMS, thread_name_prefix="call"),
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE),
                ("grpc.max_send_message_length", _MAX_MESSAGE),
                ("grpc.max_concurrent_streams", _MAX_STREAMS),
                ("grpc.http2.lookahead_bytes", _STREAM_WINDOW),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._grpc.add_generic_rpc_handlers((self._protocol(), *self._side_protocols()))
        self._grpc.add_insecure_port(f"unix:{path}")

    def start(self) -> None:
        self._grpc.start()

    def wait(self) -> None:
        """Returns once the agent has asked for the end and calls have ended."""
        self._end.wait()
        self.stop()

    def stop(self) -> None:
        self._grpc.stop(_GRACE).wait()

    def _protocol(self) -> grpc.GenericRpcHandler:
        s = self._server

        def unary(call: Callable[[Any], Any], request: Any, reply: Any) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(_guarded(call), request.FromString, reply.SerializeToString)

        def close(_: pb.Empty) -> pb.Empty:
            s.close()
            return pb.Empty()

        return grpc.method_handlers_generic_handler(
            "barnabas.plugin.v1.Plugin",
            {
                "Describe": unary(s.describe, pb.DescribeRequest, pb.Description),
                "Configure": unary(s.configure, pb.ConfigureRequest, pb.ConfigureReply),
                "UpdateTopology": unary(s.update_topology, pb.Topology, pb.Empty),
                "Metrics": unary(s.metrics, pb.MetricsRequest, pb.MetricsReply),
                "Close": unary(close, pb.Empty, pb.Empty),
                "Lane": grpc.stream_stream_rpc_method_handler(
                    self._lane, pb.Batch.FromString, pb.Reply.SerializeToString
                ),
                "Acknowledge": grpc.stream_unary_rpc_method_handler(
                    self._acknowledge, pb.Acknowledgements.FromString, pb.Empty.SerializeToString
                ),
            },
        )

    def _lane(self, batches: Iterator[pb.Batch], context: grpc.ServicerContext) -> Iterator[pb.Reply]:
        """Answers the batches of one lane, in order, until the agent ends the stream."""
        answer = _guarded(self._server.answer)
        for batch in batches:
            yield answer(batch, context)

    def _acknowledge(self, messages: Iterator[pb.Acknowledgements], context: grpc.ServicerContext) -> pb.Empty:
        take = _guarded(self._server.acknowledge)
        for message in messages:
            take(message, context)
        return pb.Empty()

    def _side_protocols(self) -> Iterator[grpc.GenericRpcHandler]:
        """What go-plugin's client calls. Requests and replies are bytes: there is next to nothing in them."""

        def check(request: bytes, context: grpc.ServicerContext) -> bytes:
            if request not in _CHECKED:
                context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            return _HEALTHY

        def shutdown(_: bytes, __: grpc.ServicerContext) -> bytes:
            self._end.set()
            return b""  # plugin.Empty

        def nothing(_: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
            # What is printed reaches the agent through the process's own output.
            return iter(())

        yield grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
        )
        yield grpc.method_handlers_generic_handler(
            "plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown)}
        )
        yield grpc.method_handlers_generic_handler(
            "plugin.GRPCStdio", {"StreamStdio": grpc.unary_stream_rpc_method_handler(nothing)}
        )
        # The broker makes connections besides, which the protocol has no use for.
        yield grpc.method_handlers_generic_handler(
            "plugin.GRPCBroker", {"StartStream": grpc.stream_stream_rpc_method_handler(nothing)}
        )


def _guarded(call: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Makes an exception of a call its status."""

    def guarded(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(request)
        except Refused as refused:
            _abort(context, refused.status, str(refused))
        except Exception:
            _abort(context, "UNKNOWN", traceback.format_exc()[-_MAX_ERROR:].strip())

    return guarded


_MAX_ERROR = 8 << 10  # characters: an error travels in a header of HTTP/2, which the agent limits


def _abort(context: grpc.ServicerContext, status: str, message: str) -> NoReturn:
    context.abort(grpc.StatusCode[status], message)
    raise AssertionError("BUG: abort returned")
