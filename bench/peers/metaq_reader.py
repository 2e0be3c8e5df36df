"""One reader with our client, in a process of its own: `python -m bench.peers.metaq_reader PORT BYTES`.

Reads partition read-0 from its beginning until it has so many bytes; prints bytes per second.
"""

import sys
import time

import metaq
from metaq.record import HEADER_SIZE


def main() -> None:
    port, size = int(sys.argv[1]), int(sys.argv[2])
    with metaq.connect(f"metaq://127.0.0.1:{port}") as mq:
        (partition,) = mq.partitions("read")
        reader = mq.reader("read", partition, 0)
        began, got = time.monotonic(), 0
        while got < size:
            got += sum(len(message.data) + HEADER_SIZE for message in reader.fetch(wait=1.0))
        print(got / (time.monotonic() - began))


if __name__ == "__main__":
    main()
