"""Tests of the examples, as a plugin's author writes them: without the agent."""

import importlib.machinery
import importlib.util
import pathlib
import sys
import unittest
import zlib

from barnabas_plugin import ConfigErrors, RetryLater, Role
from barnabas_plugin.testing import Given, handle


def load(name):
    """Imports a script whose name is no module's."""
    path = str(pathlib.Path(__file__).with_name(name))
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


class Shout(unittest.TestCase):
    plugin = load("barnabas-interceptor-shout").Shout

    def test_makes_values_upper_case(self):
        got = handle(self.plugin, [Given(b"hello"), Given(None), Given(b"")], {"mark": "?", "times": 2})
        self.assertEqual([o.value for o in got], [b"HELLO??", None, b"??"])
        self.assertFalse(got[1].changed, "a tombstone is left as it is")

    def test_drops_what_is_whispered(self):
        got = handle(self.plugin, [Given(b"psst, alice"), Given(b"hello")], {"whisper": "^psst"})
        self.assertEqual([o.dropped for o in got], [True, False])

    def test_refuses_a_wrong_configuration_by_its_member(self):
        for config, pointer in (
            ({"whisper": "("}, "/whisper"),
            ({"times": 11}, "/times"),
            ({"times": True}, "/times"),
            ({"tiems": 1}, "/tiems"),
        ):
            with self.subTest(config), self.assertRaises(ConfigErrors) as raised:
                handle(self.plugin, [], config)
            self.assertEqual([e.pointer for e in raised.exception.errors], [pointer])


class Hex(unittest.TestCase):
    plugin = load("barnabas-serializer-hex").Hex

    def test_serializes_values_or_keys(self):
        given = [Given(b"\xab", key=b"\xcd"), Given(None, key=None)]
        as_value = handle(self.plugin, given)
        self.assertEqual([(o.value, o.key) for o in as_value], [(b"ab", b"\xcd"), (None, None)])
        as_key = handle(self.plugin, given, {"digits": "upper"}, role=Role.KEY)
        self.assertEqual([(o.value, o.key) for o in as_key], [(b"\xab", b"CD"), (None, None)])


class Crc32(unittest.TestCase):
    plugin = load("barnabas-partitioner-crc32").Crc32

    def test_chooses_by_the_key(self):
        got = handle(self.plugin, [Given(key=b"alice"), Given(key=None)], topology={"test": 6})
        self.assertEqual([o.partition for o in got], [zlib.crc32(b"alice") % 6, -1])

    def test_waits_for_the_topology(self):
        with self.assertRaises(RetryLater):
            handle(self.plugin, [Given(key=b"alice")])


if __name__ == "__main__":
    unittest.main()
