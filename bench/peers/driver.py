"""What all drivers of clients share: arguments in, one line of JSON out, the clock between."""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

BATCH: Final = 500  # messages a driver sends at once where its client wants batches
SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Job:
    """A backlog: `messages` of about `size` bytes in `partitions` of `topic` at `address`."""

    verb: str  # fill or consume
    address: str
    topic: str
    messages: int
    size: int
    partitions: int
    mixed: bool  # sizes from half to one and a half of `size`

    def bodies(self) -> Iterator[list[bytes]]:
        """Yield the messages, some hundreds at a time; the same every time."""
        chance = random.Random(SEED)
        left = self.messages
        while left > 0:
            count = min(BATCH, left)
            yield [bytes(self._size(chance)) for _ in range(count)]
            left -= count

    def parts(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield partition and messages; the partitions take turns."""
        for number, batch in enumerate(self.bodies()):
            yield number % self.partitions, batch

    def _size(self, chance: random.Random) -> int:
        return chance.randint(self.size // 2, self.size * 3 // 2) if self.mixed else self.size


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a driver measured; `cpu`: seconds of its process."""

    messages: int
    seconds: float
    cpu: float


class Clock:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, messages: int) -> Outcome:
        return Outcome(messages, time.perf_counter() - self._wall, time.process_time() - self._cpu)


def main(fill: Callable[[Job], None], consume: Callable[[Job], Outcome]) -> None:
    """Do what the command line says: VERB ADDRESS TOPIC MESSAGES SIZE PARTITIONS MIXED."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("fill", "consume"))
    parser.add_argument("address")
    parser.add_argument("topic")
    for name in ("messages", "size", "partitions", "mixed"):
        parser.add_argument(name, type=int)
    words = parser.parse_args()
    job = Job(**{**vars(words), "mixed": bool(words.mixed)})
    if job.verb == "fill":
        fill(job)
    else:
        print(json.dumps(asdict(consume(job))))
