"""Raw puts on the brokers, and their start with many partitions."""

import asyncio
import shutil
from typing import Final

from bench import loads, report
from bench.brokers import Running, running
from bench.cases import CREATING, CREATING_FROM, JAVA, LOADS, OURS, START_PARTITIONS, Load, Setting
from bench.loads import LoadFailed, Puts
from bench.plan import Plan, one_line, say
from bench.processes import ServerFailed
from bench.samples import Sample, Samples

IDLE: Final = 2.0  # seconds before memory is read
SHAKE: Final = Load(50, 20, 0.0)  # what every broker gets before it is measured; Java compiles meanwhile
Failure: Final = (LoadFailed, ServerFailed)


async def measure_puts(plan: Plan, samples: Samples, round_: int, setting: Setting) -> None:
    wanted = [load for load in LOADS if plan.wants(report.put_case(setting, load))]
    creating = setting.partitions >= CREATING_FROM and plan.wants(report.creating_case(setting))
    if not wanted and not creating:
        return
    for name in plan.turn(round_):
        say(f"round {round_ + 1}: {name}, {setting.name}")
        folder = plan.folder / f"{name}-puts"
        todo = [report.creating_case(setting)] * creating + [report.put_case(setting, load) for load in wanted]
        try:
            async with running(name, folder, setting, plan.zk) as broker:
                if creating:
                    puts = await loads.put(broker.port, CREATING, setting.partitions, plan.seconds, 0)
                    samples.add(put_sample(todo.pop(0), name, round_, puts))
                await loads.put_each(broker.port, setting.partitions)
            # a broker may make the files of new partitions later: stopped in order it has, and creating is not measured
            async with running(name, folder, setting, plan.zk) as broker:
                await loads.put(broker.port, SHAKE, setting.partitions, 3 * plan.warm, 0)
                for load in wanted:
                    puts = await loads.put(broker.port, load, setting.partitions, plan.seconds, plan.warm)
                    samples.add(put_sample(todo.pop(0), name, round_, puts))
        except Failure as exc:
            for case in todo:
                samples.add(Sample(case, name, round_, None, "messages/s", one_line(exc)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if plan.late():
            return


def put_sample(case: str, broker: str, round_: int, puts: Puts) -> Sample:
    say(f"  {case}: {puts.rate:,.0f}/s, p50 {puts.p50_ms} ms, p99 {puts.p99_ms} ms")
    return Sample(case, broker, round_, puts.rate, "messages/s", f"p50 {puts.p50_ms} ms, p99 {puts.p99_ms} ms")


async def measure_start(plan: Plan, samples: Samples, round_: int) -> None:
    """Fill a folder with partitions, stop, start; for ours also after SIGKILL."""
    setting = Setting(synced=False, partitions=START_PARTITIONS)
    for name in (n for n in plan.turn(round_) if n in (OURS, JAVA)):
        say(f"round {round_ + 1}: {name}, start with {START_PARTITIONS:,} partitions")
        folder = plan.folder / f"{name}-start"

        def add(case: str, value: float, unit: str, name: str = name) -> None:
            say(f"  start/{case}: {value:,.2f} {unit}")
            samples.add(Sample(f"start/{case}", name, round_, value, unit))

        try:
            async with running(name, folder, setting, plan.zk) as broker:
                await loads.put_each(broker.port, START_PARTITIONS, times=10)
            async with running(name, folder, setting, plan.zk) as broker:
                add("after a clean stop", broker.seconds, "s")
                await asyncio.sleep(IDLE)
                add("memory, idle", broker.memory(), report.MIB)
                if name == OURS:
                    await loads.put_each(broker.port, START_PARTITIONS)
                    await kill(broker)
            if name == OURS:
                async with running(name, folder, setting, plan.zk) as broker:
                    add("after SIGKILL", broker.seconds, "s")
        except Failure as exc:
            samples.add(Sample("start/after a clean stop", name, round_, None, "s", one_line(exc)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def kill(broker: Running) -> None:
    broker.process.kill()
    await broker.process.wait()
