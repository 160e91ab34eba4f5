"""Configuration: the fields of a plugin's dataclass, or a dict that a schema describes."""

from __future__ import annotations

import copy
import dataclasses
import json
import typing
from typing import Any, Dict, List, Tuple

from ._errors import ConfigError, ConfigErrors, Mistake
from ._schema import check_schema, pointer, validate

_KEYWORDS = {
    "description": "description", "minimum": "minimum", "maximum": "maximum", "min_length": "minLength",
    "max_length": "maxLength", "min_items": "minItems", "max_items": "maxItems", "unique_items": "uniqueItems",
    "pattern": "pattern", "enum": "enum", "examples": "examples",
}  # fmt: skip


def setting(default: Any = dataclasses.MISSING, **keywords: Any) -> Any:
    """Returns a field of a plugin's dataclass: a member of its configuration.

    Without a default the configuration must have the member. A default that is a
    list or dict is copied for each plugin. The keywords say more about the
    member: description, minimum, maximum, min_length, max_length, min_items,
    max_items, unique_items, pattern, enum, examples.
    """
    unknown = sorted(set(keywords) - set(_KEYWORDS))
    if unknown:
        raise Mistake(f"setting() has no {', '.join(unknown)}: choose from {', '.join(_KEYWORDS)}")
    metadata = {"schema": {_KEYWORDS[name]: value for name, value in keywords.items()}}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def schema_of(plugin_class: type) -> Dict[str, Any]:
    """Returns the JSON Schema of a plugin's configuration."""
    if dataclasses.is_dataclass(plugin_class):
        schema = _schema_of_dataclass(plugin_class)
    else:
        schema = dict(getattr(plugin_class, "config_schema", {"additionalProperties": False}))
        schema.setdefault("type", "object")
    check_schema(schema)
    return schema


def with_defaults(plugin_class: type) -> Any:
    """Returns a plugin whose fields hold their defaults; a field without one holds None."""
    if not dataclasses.is_dataclass(plugin_class):
        plugin = plugin_class()
        plugin.config = _defaults_of(schema_of(plugin_class))
        return plugin
    return plugin_class(**{f.name: None for f in _fields(plugin_class) if _is_required(f)})


def configured(plugin_class: type, config: str) -> Any:
    """Returns a plugin with a configuration, a JSON object; raises ConfigErrors."""
    value = _parse(config or "{}")
    schema = schema_of(plugin_class)
    errors = validate(schema, value)
    if errors:
        raise ConfigErrors(errors)
    if dataclasses.is_dataclass(plugin_class):
        plugin = _decode(plugin_class, value)
    else:
        plugin = plugin_class()
        plugin.config = {**_defaults_of(schema), **value}
    if hasattr(plugin, "configure"):
        _let_check(plugin)
    return plugin


def _let_check(plugin: Any) -> None:
    """Lets the plugin check what a schema can't."""
    try:
        plugin.configure()
    except (ConfigErrors, Mistake):
        raise
    except ConfigError as error:
        raise ConfigErrors([error]) from error
    except Exception as error:
        raise ConfigErrors([ConfigError("", f"{type(error).__name__}: {error}")]) from error


def _parse(config: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(config, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ConfigErrors([ConfigError("", f"not JSON: {error}")]) from error


def _fields(plugin_class: type) -> List[dataclasses.Field]:
    """Returns the fields that are members of the configuration."""
    return [f for f in dataclasses.fields(plugin_class) if f.init and not f.name.startswith("_")]


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _schema_of_dataclass(plugin_class: type) -> Dict[str, Any]:
    hints = typing.get_type_hints(plugin_class)
    properties: Dict[str, Any] = {}
    required = []
    for field in _fields(plugin_class):
        part = {**_schema_of_type(hints[field.name], field.name), **field.metadata.get("schema", {})}
        if _is_required(field):
            required.append(field.name)
        else:
            default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
            default = dataclasses.asdict(default) if dataclasses.is_dataclass(default) else default
            if default:  # as in Go, a zero value is not written out
                part["default"] = default
        properties[field.name] = part
    schema: Dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema


_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _schema_of_type(hint: Any, name: str) -> Dict[str, Any]:
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if hint is Any:
        return {}
    if dataclasses.is_dataclass(hint):
        return _schema_of_dataclass(hint)
    outer, inner = _parts_of(hint)
    if outer is typing.Optional:
        return _schema_of_type(inner[0], name)
    if outer is typing.Literal:
        return {"enum": list(inner)}
    if outer is list:
        return {"type": "array", "items": _schema_of_type(inner[0], name) if inner else {}}
    if outer is dict:
        return {"type": "object", "additionalProperties": _schema_of_type(inner[1], name) if inner else True}
    raise Mistake(
        f"the field {name} has the type {hint}; a configuration has str, int, float, bool, Any, lists, dicts with str"
        " members, Literal, dataclasses and Optional of them"
    )


def _parts_of(hint: Any) -> Tuple[Any, Tuple[Any, ...]]:
    """Returns what a generic type is of; Optional for a type or None."""
    outer, inner = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in inner and len(inner) == 2:
        return typing.Optional, tuple(part for part in inner if part is not type(None))
    return outer or hint, inner


def _decode(hint: Any, value: Any) -> Any:
    """Makes a value that fits the schema of a type one of the type."""
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _decode(hints[name], member) for name, member in value.items()})
    if hint is int:
        return int(value)
    if hint is float:
        return float(value)
    outer, inner = _parts_of(hint)
    if outer is typing.Optional:
        return _decode(inner[0], value)
    if outer is list and inner:
        return [_decode(inner[0], element) for element in value]
    if outer is dict and inner:
        return {name: _decode(inner[1], member) for name, member in value.items()}
    return value


def _defaults_of(schema: Dict[str, Any]) -> Dict[str, Any]:
    members = schema.get("properties", {}).items()
    return {name: copy.deepcopy(part["default"]) for name, part in members if isinstance(part, dict) and "default" in part}


__all__ = ["configured", "pointer", "schema_of", "setting", "with_defaults"]
