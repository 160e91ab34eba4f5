"""Values that are objects travel as MessagePack."""

from __future__ import annotations

from typing import Any

from ._errors import Mistake, Refusal


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise Mistake("records whose value is an object need the package msgpack: pip install msgpack") from None
    return msgpack


def decode(encoded: bytes) -> Any:
    """Decodes a value; raises Refusal for what is no MessagePack."""
    msgpack = _msgpack()
    try:
        return msgpack.unpackb(encoded, raw=False, strict_map_key=True)
    except Exception as error:
        raise Refusal("object.decode", str(error)) from error


def encode(value: Any) -> bytes:
    """Encodes a value; the members of maps in the order of their names, so that
    the same object always has the same bytes."""
    msgpack = _msgpack()
    try:
        return msgpack.packb(_ordered(value), use_bin_type=True)
    except Mistake:
        raise
    except Exception as error:
        raise Refusal("object.encode", str(error)) from error


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise Mistake(f"the members of an object have names, not {type(name).__name__}")
        return {name: _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_ordered(element) for element in value]
    return value
