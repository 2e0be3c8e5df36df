"""Our consumer, as the user's guide begins: a plain for loop over the messages of a group."""

import metaq
from bench.peers.driver import Clock, Job, Outcome, main


def fill(job: Job) -> None:
    with metaq.connect(f"meta://{job.address}") as mq:
        producer = mq.producer(job.topic)
        for partition, bodies in job.parts():
            producer.send_many(bodies, partition=partition)


def consume(job: Job) -> Outcome:
    with metaq.connect(f"meta://{job.address}") as mq:
        consumer = mq.consumer(job.topic, group="bench", offsets="memory")
        got = 0
        clock = Clock()
        for _ in consumer:
            got += 1
            if got == job.messages:
                break
        return clock.stop(got)


if __name__ == "__main__":
    main(fill, consume)
