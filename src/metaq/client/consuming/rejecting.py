"""What becomes of a message that its handler failed at too often (reference: RejectConsumptionHandler)."""

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from metaq.client.consuming.handlers import only_exceptions
from metaq.client.message import Message
from metaq.client.producer import Producer

log = logging.getLogger(__name__)

Again = Callable[[Message], Awaitable[bool]]  # False: no more of them now

_LONGEST_REASON: Final = 500  # characters


class Rejects(Protocol):
    """Takes messages off the hands of a consumer. What it raises makes the message be handled again."""

    async def reject(self, message: Message, error: BaseException) -> None:
        """Return once the message is safe, or meant to be gone."""

    async def recover(self, again: Again) -> None:
        """Give what is kept to the handler once more, until it says no; what it fails at stays."""

    async def close(self) -> None: ...


class Drop:
    """Messages go; a line in the log says so."""

    async def reject(self, message: Message, error: BaseException) -> None:
        """Log what is dropped."""
        log.error("%s %s: message %d at %d dropped: %r", *_named(message), error)

    async def recover(self, again: Again) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""


class Call(Drop):
    """A function of the user's decides, plain or async."""

    def __init__(self, function: Callable[[Message, BaseException], Awaitable[None] | None]) -> None:
        self._function = function

    async def reject(self, message: Message, error: BaseException) -> None:
        """Call it. A plain one is called in a thread."""
        if inspect.iscoroutinefunction(self._function):
            await self._function(message, error)
            return
        result = await asyncio.to_thread(self._call, message, error)
        if inspect.isawaitable(result):
            await result

    def _call(self, message: Message, error: BaseException) -> Awaitable[None] | None:
        with only_exceptions():
            return self._function(message, error)


class DeadLetters(Drop):
    """Messages go to the topic `<group>.dead`: the data as it was, where it came from as JSON in the attribute.

    The brokers must accept that topic. As long as they do not, messages stay and are handled again.
    """

    def __init__(self, group: str, producer: Callable[[str], Producer]) -> None:
        self._topic = f"{group}.dead"
        self._producer = producer

    async def reject(self, message: Message, error: BaseException) -> None:
        """Send it, and wait until a broker has it. Raises ClientError."""
        await self._producer(self._topic).send(message.data, attribute=json.dumps(origin(message, error)))
        log.warning("%s %s: message %d at %d sent to %s: %r", *_named(message), self._topic, error)


def origin(message: Message, error: BaseException) -> dict[str, object]:
    """Return what a dead letter says of where it came from and why."""
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "id": message.id,
        "attribute": message.attribute,
        "error": repr(error)[:_LONGEST_REASON],
    }


def _named(message: Message) -> tuple[str, str, int, int]:
    return message.topic, message.partition, message.id, message.offset
