"""Putting the parts of a consumer together."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from metaq.client.consuming.consumer import Consumer, Parts
from metaq.client.consuming.groups import Groups, Host, broadcast_group
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.consuming.recovering import Recovery
from metaq.client.consuming.rejecting import Call, DeadLetters, Drop, Rejects
from metaq.client.offsets import OffsetStore, Surroundings, make_store
from metaq.client.preference import Preference, check_numbers
from metaq.client.producer import Producer
from metaq.client.replicas import Replicas
from metaq.ports import Files, Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What consumers keep on the disk, and where."""

    files: Files
    threads: Threads
    host: Host
    around: Surroundings  # for offset stores


class Consumers:
    """Makes the consumers of one client."""

    def __init__(
        self,
        replicas: Replicas,
        groups: Groups,
        machine: Machine,
        producer: Callable[[str], Producer],
    ) -> None:
        self._replicas = replicas
        self._groups = groups
        self._machine = machine
        self._producer = producer

    def make(self, topics: tuple[str, ...], group: str, options: ConsumerOptions) -> Consumer:
        """Return a consumer that has not joined yet. Raises ConfigError."""
        self.check(options.preference)
        if options.broadcast:
            group = broadcast_group(group, self._machine.host.address())
        parts = Parts(
            self._replicas,
            self._store(options),
            self._rejects(group, options),
            lambda share, topics: self._groups.member(group, topics, share, options),
        )
        return Consumer(group, topics, parts, options)

    def check(self, preference: Preference) -> None:
        """Raise ConfigError if it names a slave by a number that this client cannot know."""
        check_numbers(preference, self._machine.around.registry is not None)

    def _store(self, options: ConsumerOptions) -> OffsetStore:
        around = self._machine.around
        if options.broadcast and options.offsets is None:
            around = replace(around, registry=None)  # what one host has got is nobody else's business
        return make_store(options.offsets, around)

    def _rejects(self, group: str, options: ConsumerOptions) -> Rejects:
        match options.reject:
            case "recover":
                path = options.recover_path or f"{Path.home()}/.metaq/recover"
                return Recovery(path, group, self._machine.files, self._machine.threads)
            case "dead_letter":
                return DeadLetters(group, self._producer)
            case "drop":
                return Drop()
            case function:
                return Call(function)
