"""The main of a plugin: go-plugin's handshake, and the life of the process."""

from __future__ import annotations

import faulthandler
import logging
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from typing import List, Mapping, NoReturn

from . import _log
from ._program import PROTOCOL_VERSION, Program, ProgramKind, Server

# The cookie keeps a plugin from being run by hand by mistake. It is no secret.
_COOKIE_KEY = "BARNABAS_PLUGIN_COOKIE"
_COOKIE_VALUE = "5f1d0b6a9c2e47d38a60b1f4e7c95d220e8b43a7f6d14c59b2307ea8c6f1d94b"
_LIFELINE = "BARNABAS_LIFELINE_FD"
_LOG_LEVEL = "BARNABAS_PLUGIN_LOG_LEVEL"

_CORE_PROTOCOL = 1  # go-plugin's own version
_LAST_WORDS = 1.0  # seconds that the plugin's close may take when nobody waits for it


def serve_interceptor(name: str, version: str, plugin_class: type) -> NoReturn:
    """The main of an interceptor. It ends the process."""
    _serve(Program(ProgramKind.INTERCEPTOR, name, version, plugin_class))


def serve_serializer(name: str, version: str, plugin_class: type) -> NoReturn:
    """The main of a serializer. It ends the process."""
    _serve(Program(ProgramKind.SERIALIZER, name, version, plugin_class))


def serve_partitioner(name: str, version: str, plugin_class: type) -> NoReturn:
    """The main of a partitioner. It ends the process."""
    _serve(Program(ProgramKind.PARTITIONER, name, version, plugin_class))


def _serve(program: Program) -> NoReturn:
    code = main(program, sys.argv[1:], os.environ)
    # Threads of a plugin that hangs must not keep the process from its end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(program: Program, arguments: List[str], environment: Mapping[str, str]) -> int:
    """Runs the program and returns its exit code."""
    if arguments == ["describe"]:
        from google.protobuf import json_format

        print(json_format.MessageToJson(program.describe()))
        return 0
    if arguments == ["debug"]:
        return debug(program)
    if arguments or environment.get(_COOKIE_KEY) != _COOKIE_VALUE:
        text = _HELP.format(name=program.name, version=program.version, kind=program.kind.block, file=sys.argv[0])
        print(text, file=sys.stderr)
        return 1
    try:
        return Process(program, environment).run()
    except HandshakeError as error:
        print(f"{program.name}: {error}", file=sys.stderr)
        return 1


_HELP = """\
{name} {version} is a Barnabas {kind} plugin. The agent starts it; it does nothing by itself.

  {file} describe   prints what it is and its configuration, as JSON
  {file} debug      serves an agent that is told to attach to it, e.g. from a debugger

To use it, name it in a pipeline of the agent's configuration:

  {kind} "{name}" {{
    config = {{ }}
  }}
"""


def debug(program: Program) -> int:
    """Serves agents that attach to this process, one after the other, until it is
    interrupted. It returns the exit code."""
    from ._grpc import Endpoint

    _log.set_up("debug")
    with tempfile.TemporaryDirectory(prefix="barnabas-debug-") as folder:
        path = os.path.join(folder, "socket")
        endpoint = Endpoint(Server(program, reusable=True), path)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        endpoint.start()
        print(_ATTACH.format(name=program.name, version=program.version, path=path), flush=True)
        try:
            endpoint.wait()
        except KeyboardInterrupt:
            endpoint.stop()
    return 0


_ATTACH = """\
{name} {version} serves at unix://{path}; in another terminal:

  barnabas run --attach PIPELINE/{name}=unix://{path}

where PIPELINE/{name} is the stage of the configuration that uses the plugin. Ctrl-C ends it.
"""


class HandshakeError(Exception):
    """What the agent asks for can't be had, and why."""


class Process:
    """The plugin's process while it serves."""

    def __init__(self, program: Program, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._server = Server(program)

    def run(self) -> int:
        """Serves until the agent ends it."""
        self._check_versions()
        # The agent decides when a plugin ends: a signal to the whole process group
        # must not cut the drain short.
        for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        # Before it kills a plugin that hangs, the agent asks where, with SIGQUIT.
        faulthandler.enable()
        faulthandler.register(signal.SIGQUIT, chain=True)
        _log.set_up(self._environment.get(_LOG_LEVEL, ""))
        sys.stdout.reconfigure(line_buffering=True)  # what is printed reaches the agent's log line by line
        self._watch_lifeline()

        from ._grpc import Endpoint  # what only describes itself needs no gRPC

        folder = self._environment.get("PLUGIN_UNIX_SOCKET_DIR", "")
        socket_folder = tempfile.mkdtemp(prefix="plugin", dir=folder) if not folder else folder
        path = os.path.join(socket_folder, f"plugin{os.getpid()}")
        endpoint = Endpoint(self._server, path)
        endpoint.start()
        self._share(path)
        print(f"{_CORE_PROTOCOL}|{PROTOCOL_VERSION}|unix|{path}|grpc|", flush=True)
        endpoint.wait()
        if not folder:
            shutil.rmtree(socket_folder, ignore_errors=True)
        return 0

    def _check_versions(self) -> None:
        versions = self._environment.get("PLUGIN_PROTOCOL_VERSIONS", str(PROTOCOL_VERSION))
        if str(PROTOCOL_VERSION) not in versions.split(","):
            raise HandshakeError(
                f"the agent speaks versions {versions} of the plugin protocol, this plugin {PROTOCOL_VERSION}:"
                " install a version of the plugin that is built for this agent"
            )
        if self._environment.get("PLUGIN_CLIENT_CERT"):
            raise HandshakeError("the agent wants TLS, which plugins in Python do not have")

    def _share(self, path: str) -> None:
        """Lets the group in that the agent names, if it names one."""
        group = self._environment.get("PLUGIN_UNIX_SOCKET_GROUP")
        if not group:
            return
        try:
            shutil.chown(path, group=int(group) if group.isdigit() else group)
            os.chmod(path, os.stat(path).st_mode | stat.S_IRGRP | stat.S_IWGRP)
        except (OSError, LookupError) as error:
            raise HandshakeError(f"give the socket to the group {group}: {error}") from error

    def _watch_lifeline(self) -> None:
        """Ends the process when the agent's end of the pipe closes."""
        number = self._environment.get(_LIFELINE, "")
        if not number:
            return
        try:
            descriptor = int(number)
            if descriptor < 3:
                raise ValueError
            os.set_inheritable(descriptor, False)
        except (ValueError, OSError, OverflowError):
            raise HandshakeError(f"the agent's lifeline is no file descriptor: {number!r}") from None
        threading.Thread(target=self._await_end, args=(descriptor,), name="lifeline", daemon=True).start()

    def _await_end(self, lifeline: int) -> None:
        try:
            while os.read(lifeline, 512):
                pass
        except OSError:
            pass  # it says the same as the end of file
        last = threading.Timer(_LAST_WORDS, os._exit, (0,))
        last.daemon = True
        last.start()
        try:
            self._server.close()
        except Exception:
            logging.getLogger(__name__).exception("close after the agent's end")
        os._exit(0)


__all__ = ["main", "serve_interceptor", "serve_partitioner", "serve_serializer"]
