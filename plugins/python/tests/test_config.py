"""Configurations: schemas made of fields, defaults, and what is wrong with a member."""

import json
import unittest
from dataclasses import dataclass
from typing import Any, Dict, List, Literal, Optional

from barnabas_plugin import ConfigError, ConfigErrors, Mistake, Program, setting
from barnabas_plugin._config import configured, schema_of, with_defaults
from barnabas_plugin._program import ProgramKind


@dataclass
class Rule:
    name: str
    weight: float = 1.0


@dataclass
class Everything:
    pattern: str = setting(description="What is looked for", min_length=1)
    limit: int = setting(10, minimum=1, maximum=100)
    share: float = 0.5
    strict: bool = False
    mode: Literal["fast", "safe"] = "fast"
    words: List[str] = setting(["a"], max_items=2, unique_items=True)
    labels: Dict[str, int] = setting({})
    rules: List[Rule] = setting([])
    note: Optional[str] = None
    anything: Any = None
    _made: int = 0

    def on_send(self, batch):
        pass


class ByHand:
    config_schema = {
        "properties": {"url": {"type": "string", "pattern": "^https://"}, "retries": {"type": "integer", "default": 3}},
        "required": ["url"],
        "additionalProperties": False,
    }

    def on_send(self, batch):
        pass


class Plain:
    def on_send(self, batch):
        pass


def errors_of(plugin_class, config):
    try:
        configured(plugin_class, config if isinstance(config, str) else json.dumps(config))
    except ConfigErrors as wrong:
        return [(e.pointer, e.message) for e in wrong.errors]
    return []


class SchemaTest(unittest.TestCase):
    def test_of_fields(self):
        schema = schema_of(Everything)
        self.assertEqual(schema["required"], ["pattern"])
        self.assertFalse(schema["additionalProperties"])
        self.assertNotIn("_made", schema["properties"])
        self.assertEqual(schema["properties"]["limit"], {"type": "integer", "minimum": 1, "maximum": 100, "default": 10})
        self.assertEqual(schema["properties"]["mode"], {"enum": ["fast", "safe"], "default": "fast"})
        self.assertEqual(schema["properties"]["rules"]["items"]["required"], ["name"])
        self.assertEqual(schema["properties"]["note"], {"type": "string"})

    def test_what_is_not_checked_is_refused(self):
        class Unchecked(Plain):
            config_schema = {"properties": {"a": {"type": "string", "contentEncoding": "base64"}}}

        with self.assertRaisesRegex(Mistake, "contentEncoding"):
            schema_of(Unchecked)

    def test_a_type_that_no_configuration_has(self):
        @dataclass
        class Bad(Plain):
            moment: complex = 0j

        with self.assertRaisesRegex(Mistake, "moment"):
            schema_of(Bad)


class ConfigureTest(unittest.TestCase):
    def test_defaults_and_types(self):
        plugin = configured(Everything, '{"pattern": "x", "share": 1, "rules": [{"name": "r"}]}')
        self.assertEqual((plugin.limit, plugin.share, plugin.words, plugin.note), (10, 1.0, ["a"], None))
        self.assertIsInstance(plugin.share, float)
        self.assertEqual(plugin.rules, [Rule("r", 1.0)])
        plugin.words.append("b")
        self.assertEqual(configured(Everything, '{"pattern": "x"}').words, ["a"], "a default is shared")
        self.assertEqual(configured(ByHand, '{"url": "https://x"}').config, {"url": "https://x", "retries": 3})
        self.assertEqual(configured(Plain, "").config, {})

    def test_errors_name_members(self):
        for config, want in (
            ({}, [("", '"pattern" is missing')]),
            ({"pattern": ""}, [("/pattern", "must have at least 1 characters")]),
            ({"pattern": 1}, [("/pattern", "got number, want string")]),
            ({"pattern": "x", "limit": 1.5}, [("/limit", "got number, want integer")]),
            ({"pattern": "x", "limit": True}, [("/limit", "got boolean, want integer")]),
            ({"pattern": "x", "limit": 0}, [("/limit", "must be at least 1")]),
            ({"pattern": "x", "mode": "slow"}, [("/mode", "must be one of 'fast', 'safe'")]),
            ({"pattern": "x", "words": ["a", "a"]}, [("/words", "holds an element twice")]),
            ({"pattern": "x", "words": ["a", 1]}, [("/words/1", "got number, want string")]),
            ({"pattern": "x", "labels": {"a/b~": "x"}}, [("/labels/a~1b~0", "got string, want integer")]),
            ({"pattern": "x", "rules": [{"name": "r", "wieght": 1}]}, [("/rules/0/wieght", "unknown member")]),
            ({"pattern": "x", "b": 1, "a": 1}, [("/a", "unknown member"), ("/b", "unknown member")]),
            ([], [("", "got array, want object")]),
        ):
            with self.subTest(config=config):
                self.assertEqual(errors_of(Everything, config), want)
        self.assertEqual(errors_of(ByHand, {"url": "http://x"}), [("/url", "must match ^https://")])
        self.assertEqual(errors_of(Plain, {"a": 1}), [("/a", "unknown member")])

    def test_what_is_no_json(self):
        for config in ("{", "nonsense", '{"pattern": NaN}', "[" * 100_000):
            with self.subTest(config=config[:20]):
                ((pointer, message),) = errors_of(Everything, config)
                self.assertEqual(pointer, "")
                self.assertIn("not JSON", message)

    def test_what_the_plugin_itself_refuses(self):
        def refusing(error):
            class Refusing(Plain):
                def configure(self):
                    raise error

            return errors_of(Refusing, "{}")

        self.assertEqual(refusing(ConfigError("/a", "bad")), [("/a", "bad")])
        self.assertEqual(refusing(ConfigErrors([ConfigError("/a", "x"), ConfigError("", "y")])), [("/a", "x"), ("", "y")])
        self.assertEqual(refusing(ValueError("why")), [("", "ValueError: why")])


class DescribeTest(unittest.TestCase):
    def test_a_required_member_is_none_before_configuration(self):
        self.assertIsNone(with_defaults(Everything).pattern)
        described = Program(ProgramKind.INTERCEPTOR, "e", "1", Everything).describe()
        self.assertEqual(json.loads(described.config_schema), schema_of(Everything))

    def test_what_each_kind_implies(self):
        class Both(Plain):
            may_drop = False

            def serialize(self, batch):
                pass

            def partition(self, batch):
                pass

        for kind, reads, writes, drops in (
            (ProgramKind.INTERCEPTOR, "headers key partition source timestamp topic value", "headers key partition timestamp topic value", False),
            (ProgramKind.SERIALIZER, "key value", "key value", False),
            (ProgramKind.PARTITIONER, "key topic", "partition", False),
        ):
            with self.subTest(kind=kind):
                d = Program(kind, "b", "1", Both).describe()
                self.assertEqual(" ".join(sorted(f.name for f, _ in d.reads.ListFields())), reads)
                self.assertEqual(" ".join(sorted(f.name for f, _ in d.writes.ListFields())), writes)
                self.assertEqual(d.may_drop, drops)

    def test_a_class_without_the_method(self):
        with self.assertRaisesRegex(Mistake, r"no method partition\(batch\)"):
            Program(ProgramKind.PARTITIONER, "p", "1", Plain)


if __name__ == "__main__":
    unittest.main()
