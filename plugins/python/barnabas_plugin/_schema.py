"""The part of JSON Schema (draft 2020-12) that configurations are checked with."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping

from ._errors import ConfigError, Mistake

# Keywords that say nothing about what is valid.
_ANNOTATIONS = frozenset("$schema $id $comment title description default examples deprecated readOnly writeOnly format".split())


def pointer(*members: object) -> str:
    """Returns the JSON pointer (RFC 6901) of a path of members."""
    return "".join("/" + str(member).replace("~", "~0").replace("/", "~1") for member in members)


def check_schema(schema: Any) -> None:
    """Raises Mistake for a schema with a keyword that this package does not check."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise Mistake(f"a schema is a dict or a bool, not {type(schema).__name__}")
    unknown = sorted(set(schema) - _ANNOTATIONS - set(_KEYWORDS) - {"type", "additionalProperties"})
    if unknown:
        raise Mistake(f"the schema has {', '.join(unknown)}, which this package does not check: check it in configure()")
    for part in schema.get("properties", {}).values():
        check_schema(part)
    for name in ("items", "additionalProperties"):
        if name in schema:
            check_schema(schema[name])
    for name in ("anyOf", "allOf"):
        for part in schema.get(name, ()):
            check_schema(part)


def validate(schema: Any, value: Any, at: str = "") -> List[ConfigError]:
    """Returns what is wrong with a value; a member that is not known is named itself."""
    if isinstance(schema, bool):
        return [] if schema else [ConfigError(at, "nothing is allowed here")]
    wanted = schema.get("type")
    if wanted is not None:
        allowed = [wanted] if isinstance(wanted, str) else wanted
        if not any(_TYPES[name](value) for name in allowed):
            return [ConfigError(at, f"got {_type_of(value)}, want {' or '.join(allowed)}")]
    errors: List[ConfigError] = []
    for keyword, limit in schema.items():
        check = _KEYWORDS.get(keyword)
        if check:
            errors.extend(check(limit, value, at))
    if isinstance(value, dict) and "additionalProperties" in schema:
        errors.extend(_check_additional(schema, value, at))
    return errors


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Dict[str, Callable[[Any], bool]] = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}


def _type_of(value: Any) -> str:
    return next(name for name in ("null", "boolean", "number", "string", "array", "object") if _TYPES[name](value))


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _check_additional(schema: Mapping[str, Any], value: Dict[str, Any], at: str) -> List[ConfigError]:
    rest = sorted(set(value) - set(schema.get("properties", {})))
    if schema["additionalProperties"] is False:
        return [ConfigError(at + pointer(name), "unknown member") for name in rest]
    return [e for name in rest for e in validate(schema["additionalProperties"], value[name], at + pointer(name))]


def _check_properties(parts: Mapping[str, Any], value: Any, at: str) -> List[ConfigError]:
    if not isinstance(value, dict):
        return []
    return [e for name in parts if name in value for e in validate(parts[name], value[name], at + pointer(name))]


def _check_required(names: List[str], value: Any, at: str) -> List[ConfigError]:
    if not isinstance(value, dict):
        return []
    return [ConfigError(at, f'"{name}" is missing') for name in names if name not in value]


def _check_items(part: Any, value: Any, at: str) -> List[ConfigError]:
    if not isinstance(value, list):
        return []
    return [e for i, element in enumerate(value) for e in validate(part, element, at + pointer(i))]


def _check_enum(allowed: List[Any], value: Any, at: str) -> List[ConfigError]:
    if any(_same(value, one) for one in allowed):
        return []
    return [ConfigError(at, "must be one of " + ", ".join(map(repr, allowed)))]


def _check_any_of(parts: List[Any], value: Any, at: str) -> List[ConfigError]:
    tried = [validate(part, value, at) for part in parts]
    return [] if any(not errors for errors in tried) else [ConfigError(at, "fits none of the allowed forms"), *tried[0]]


def _check_all_of(parts: List[Any], value: Any, at: str) -> List[ConfigError]:
    return [e for part in parts for e in validate(part, value, at)]


def _check_unique(unique: bool, value: Any, at: str) -> List[ConfigError]:
    if not unique or not isinstance(value, list):
        return []
    twice = any(_same(a, b) for i, a in enumerate(value) for b in value[:i])
    return [ConfigError(at, "holds an element twice")] if twice else []


def _limit(kind: str, measure: Callable[[Any], Any], fits: Callable[[Any, Any], bool], text: str) -> Callable[..., List[ConfigError]]:
    def check(limit: Any, value: Any, at: str) -> List[ConfigError]:
        if not _TYPES[kind](value) or fits(measure(value), limit):
            return []
        return [ConfigError(at, text.format(limit))]

    return check


def _least(measured: Any, limit: Any) -> bool:
    return bool(measured >= limit)


def _most(measured: Any, limit: Any) -> bool:
    return bool(measured <= limit)


_KEYWORDS: Dict[str, Callable[..., List[ConfigError]]] = {
    "properties": _check_properties,
    "required": _check_required,
    "items": _check_items,
    "enum": _check_enum,
    "const": lambda only, value, at: _check_enum([only], value, at),
    "anyOf": _check_any_of,
    "allOf": _check_all_of,
    "uniqueItems": _check_unique,
    "minimum": _limit("number", lambda v: v, _least, "must be at least {}"),
    "maximum": _limit("number", lambda v: v, _most, "must be at most {}"),
    "exclusiveMinimum": _limit("number", lambda v: v, lambda v, limit: v > limit, "must be more than {}"),
    "exclusiveMaximum": _limit("number", lambda v: v, lambda v, limit: v < limit, "must be less than {}"),
    "minLength": _limit("string", len, _least, "must have at least {} characters"),
    "maxLength": _limit("string", len, _most, "must have at most {} characters"),
    "pattern": _limit("string", lambda v: v, lambda v, limit: re.search(limit, v) is not None, "must match {}"),
    "minItems": _limit("array", len, _least, "must have at least {} elements"),
    "maxItems": _limit("array", len, _most, "must have at most {} elements"),
    "minProperties": _limit("object", len, _least, "must have at least {} members"),
    "maxProperties": _limit("object", len, _most, "must have at most {} members"),
}
