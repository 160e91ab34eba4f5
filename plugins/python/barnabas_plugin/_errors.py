"""What a plugin raises."""

from __future__ import annotations

from typing import Iterable, List


class ConfigError(Exception):
    """Says which member of the configuration is wrong.

    pointer is a JSON pointer (RFC 6901) such as "/patterns/0"; empty for the
    configuration as a whole.
    """

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"{pointer}: {message}" if pointer else message)
        self.pointer = pointer
        self.message = message


class ConfigErrors(Exception):
    """Says several things that are wrong with the configuration."""

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors: List[ConfigError] = list(errors)
        super().__init__("; ".join(map(str, self.errors)))


class Refusal(Exception):
    """Refuses one record, with a stable code such as "filter.expression"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RetryLater(Exception):
    """Says that something the plugin needs is away for now, such as a registry.

    Nothing of the batch is used, and it comes again after a pause that the agent
    chooses, of at least `after` seconds.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Mistake(RuntimeError):
    """Says that the plugin's code uses the batch wrongly: it must be corrected.

    It is never a reason to refuse a record.
    """
