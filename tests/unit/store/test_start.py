"""A start reads what was written since the last checkpoint, not the log."""

import errno

from tests.simulation.disk import Operation
from tests.unit.store.course import SAFE, opened


def of_a_segment(operation: Operation) -> bool:
    return operation.name == "pread" and operation.path.endswith(".meta")


def test_a_start_after_a_stop_in_order_reads_no_segment() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 300, 400, 500)
            await life.settle()
            await life.close()
            fault = life.machine.disk.fail(of_a_segment, OSError(errno.EIO, "read at the start"))
            life.open()
            fault.stop()
            await life.check()
            await life.close()

        world.run(course())
