"""Many independent operations in few round trips: as transactions, and one by one where one does not go through."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeAlias

from metaq.cluster.operations import Operation, RegistryClosed, SessionLost, Unreachable
from metaq.errors import RegistryError

BATCH: Final = 100  # operations in one transaction: some 20 KB, far below ZooKeeper's limit of 1 MB

Group: TypeAlias = list[tuple[int, Operation]]  # all operations on one path, each with its place in the whole
Batch: TypeAlias = list[Group]


def split(operations: Sequence[Operation], size: int) -> Iterator[Batch]:
    """Yield batches of about `size` operations; those on one path stay together and in order."""
    paths: dict[str, Group] = {}
    for index, operation in enumerate(operations):
        paths.setdefault(operation.path, []).append((index, operation))
    batch: Batch = []
    count = 0
    for group in paths.values():
        batch.append(group)
        count += len(group)
        if count >= size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


async def carry_out(
    operations: Sequence[Operation],
    together: Callable[[Sequence[Operation]], Awaitable[bool]],
    single: Callable[[Operation], Awaitable[None]],
) -> list[RegistryError | None]:
    """Carry out `operations` (see Registry.apply); `together` does all or none and says which, `single` does one.

    What a node's state forbids is that operation's result. SessionLost, RegistryClosed and Unreachable end everything.
    """
    results: list[RegistryError | None] = [None] * len(operations)

    async def one_path(group: Group) -> None:
        for index, operation in group:
            try:
                await single(operation)
            except (SessionLost, RegistryClosed, Unreachable):
                raise
            except RegistryError as exc:
                results[index] = exc

    async def one_batch(batch: Batch) -> None:
        if not await together([operation for group in batch for _, operation in group]):
            await _all(map(one_path, batch))

    await _all(map(one_batch, split(operations, BATCH)))
    return results


async def _all(jobs: Iterator[Awaitable[None]]) -> None:
    """Do all at once. Raises the first error, when the others have ended."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
