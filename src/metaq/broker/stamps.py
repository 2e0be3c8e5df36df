"""Stamps of batches as the store knows them, and as they are sent to who copies the log."""

from metaq.protocol.parts import Stamped
from metaq.store.entries import Batch, Stamp


def stamped(batch: Batch) -> Stamped:
    """Return the stamp of a batch as it is sent."""
    return Stamped(*batch.stamp, *batch[1:5])


def batch_of(log_id: int, stamp: Stamped) -> Batch:
    """Return the batch that was sent, in our log of that id."""
    producer, epoch, sequence, offset, length, count, first_id = stamp
    return Batch(log_id, offset, length, count, first_id, Stamp(producer, epoch, sequence))
