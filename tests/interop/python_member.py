"""A consumer of ours as a process, that says what the judge's Consume says: one JSON object a line.

    python -m tests.interop.python_member URL GROUP ID SESSION_TIMEOUT WORK

SIGTERM has it leave its group in order. Times are in seconds; WORK is what each message takes.
"""

import asyncio
import json
import signal
import sys
import time

from metaq import aio
from metaq.client import Message


def say(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


async def main(url: str, group: str, consumer_id: str, session_timeout: float, work: float) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def handle(message: Message) -> None:
        head = bytes(message.data).partition(b"|")[0].decode()
        say("message", id=message.id, partition=message.partition, head=head, at=time.time())
        await asyncio.sleep(work)

    async with aio.connect(url, session_timeout=session_timeout) as mq:
        consumer = mq.consumer("test", group=group, consumer_id=consumer_id, commit_every=0.5, longest_delay=0.05)
        await consumer.join()
        say("subscribed")
        running = asyncio.create_task(consumer.run(handle, concurrency=4))
        await stop.wait()
        await consumer.close()
        await running
    say("done")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5])))
