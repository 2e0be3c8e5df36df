"""Kafka with confluent-kafka (librdkafka), as it comes; tuned: with the one setting that a backlog waits for."""

import os

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.peers.driver import Clock, Job, Outcome, main

TUNED = {"fetch.queue.backoff.ms": 5} if os.environ.get("BENCH_TUNED") else {}


def fill(job: Job) -> None:
    admin = AdminClient({"bootstrap.servers": job.address})
    admin.create_topics([NewTopic(job.topic, job.partitions, 1)])[job.topic].result()
    producer = Producer({"bootstrap.servers": job.address, "queue.buffering.max.messages": 500_000, "linger.ms": 5})
    for partition, bodies in job.parts():
        for body in bodies:
            while True:
                try:
                    producer.produce(job.topic, body, partition=partition)
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.poll(0)
    producer.flush()


def consume(job: Job) -> Outcome:
    settings = {"bootstrap.servers": job.address, "group.id": "bench", "enable.auto.commit": False, **TUNED}
    consumer = Consumer(settings)
    consumer.list_topics(job.topic)  # it is connected now
    got = 0
    clock = Clock()
    consumer.assign([TopicPartition(job.topic, partition, 0) for partition in range(job.partitions)])
    while got < job.messages:
        for _ in consumer.consume(5000, 1.0):
            got += 1
    outcome = clock.stop(got)
    consumer.close()
    return outcome


if __name__ == "__main__":
    main(fill, consume)
