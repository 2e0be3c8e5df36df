"""One attempt to put a message into a certain partition."""

import asyncio

from metaq.client import asking
from metaq.client.directory import ANY_PARTITION
from metaq.client.producing.items import Item
from metaq.client.routes import Routes
from metaq.client.sending import parse_receipt
from metaq.errors import LinkClosed, NoBroker, Refused, Status
from metaq.model import BrokerPartition, Receipt, TopicPartition
from metaq.net.link import Link
from metaq.protocol.commands import Result
from metaq.protocol.encoder import put_head
from metaq.record import checksum, encode_body


class Target:
    """A partition of a topic, to which one message after the other is put."""

    def __init__(self, topic: str, partition: BrokerPartition, routes: Routes) -> None:
        self.partition = partition
        self._topic = topic
        self._routes = routes
        self._accepting = {partition, BrokerPartition(partition.broker_id, ANY_PARTITION)}

    async def put(self, item: Item, patience: float, timeout: float) -> Receipt:
        """Put a message and return its receipt; wait at most `patience` for a connection.

        Raises NoBroker or RegistryError (it was not sent), Refused (it was not stored), RequestTimeout or LinkClosed
        (it may be).
        """
        link = await self._link(patience)
        flag, body = encode_body(item.data, item.attribute)
        target = TopicPartition(self._topic, self.partition.partition)
        crc = checksum(body)
        reply = await link.request(lambda opaque: put_head(target, len(body), flag, crc, opaque) + body, timeout)
        where = asking.place(self._topic, self.partition, link)
        if not isinstance(reply, Result):
            raise LinkClosed(f"put to {where}: answered with data")
        if reply.status is not Status.SUCCESS:
            raise Refused(int(reply.status), f"{reply.body.decode('utf-8', 'replace')} (put to {where})")
        try:
            return parse_receipt(self.partition.broker_id, reply.body)
        except ValueError as exc:
            raise LinkClosed(f"put to {where}: answered with {reply.body[:60]!r}") from exc

    async def _link(self, patience: float) -> Link:
        """Return the link to the partition's broker once it is open and the broker accepts messages of the topic."""
        changes, loop = self._routes.changes, asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            seen = changes.generation
            why = "its broker does not accept messages of the topic"
            address = (await self._routes.directory.brokers()).get(self.partition.broker_id)
            if address is None:
                why = "its broker is away"
            elif not self._accepting.isdisjoint(await self._routes.directory.writable(self._topic)):
                link = self._routes.links.to(address)
                if link.is_open:
                    return link
                why = f"{address}: {link.reason}"
            if not await changes.wait(seen, deadline - loop.time()):
                raise NoBroker(f"{self._topic} {self.partition}: not sent: {why}")
