"""How many partitions topics have."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional, Tuple


class Topology:
    """How many partitions topics have. It never changes; a new one comes instead."""

    def __init__(self, partitions: Mapping[str, int], unavailable: Optional[Mapping[str, Iterable[int]]] = None) -> None:
        self._topics: Dict[str, Tuple[int, List[int]]] = {}
        for topic, count in partitions.items():
            away = frozenset((unavailable or {}).get(topic, ()))
            self._topics[topic] = count, [p for p in range(count) if p not in away]

    def partitions(self, topic: str) -> Optional[int]:
        """Returns how many partitions a topic has, None where that is not known."""
        known = self._topics.get(topic)
        return known[0] if known else None

    def available(self, topic: str) -> List[int]:
        """Returns the partitions that have a leader just now, ascending; do not change the list.

        It may be empty while the topic is known.
        """
        known = self._topics.get(topic)
        return known[1] if known else []
