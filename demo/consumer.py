"""One member of the demo's group, in a process of its own: writes down what it was given, then asks for more.

What is asked for next acknowledges what came before, so nothing is acknowledged that is not in the file.
"""

import logging
import signal
import sys
import threading
import time
from contextlib import suppress

import metaq


def tell_share(consumer: metaq.Consumer) -> None:
    """Print how many partitions a consumer owns, each time that changes, until the client is closed."""
    owned = -1
    with suppress(metaq.MetaqError):
        while True:
            if owned != (owned := len(consumer.partitions)):
                print(owned, flush=True)
            time.sleep(0.05)


def main(url: str, topic: str, group: str, path: str) -> None:
    """Consume until SIGTERM."""
    logging.getLogger("metaq").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        open(path, "wb", buffering=0) as file,
        metaq.connect(url, session_timeout=4.0) as mq,
        mq.consumer(topic, group=group, commit_every=0.5) as consumer,
    ):
        threading.Thread(target=tell_share, args=(consumer,), daemon=True).start()
        for batch in consumer.batches(5000, wait=0.05):
            file.write(b"".join(f"{message.attribute}\n".encode() for message in batch))


if __name__ == "__main__":
    main(*sys.argv[1:])
