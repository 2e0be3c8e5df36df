"""Running a broker in this process: signals, control socket, and what it says when it serves or ends."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from metaq._version import __version__
from metaq.admin.control import ControlServer
from metaq.admin.wire import Values
from metaq.app import RunningBroker, settle_process
from metaq.app import run as run_broker
from metaq.broker.ports import Replica
from metaq.broker.turns import make
from metaq.cli.home import Home
from metaq.cli.local import Local, beside
from metaq.config.editing import TopicChange
from metaq.config.model import BrokerConfig
from metaq.config.reload import Reloaded
from metaq.errors import MetaqError
from metaq.replication.role import Role

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Operator:
    """What can be done by hand to the broker of this process, from before it serves until after it has stopped."""

    config: BrokerConfig
    wanted: asyncio.Event = field(default_factory=asyncio.Event)  # set: stop
    outcome: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    broker: RunningBroker | None = None

    def status(self) -> Values:
        """Return what is known without waiting."""
        values = {"state": self._state(), "pid": os.getpid(), "version": __version__, "config": self.config.path}
        if self.broker is None:
            return values
        state = self.broker.broker.state()
        return values | {
            "address": str(self.broker.address),
            "port": self.broker.port,
            "broker_id": self.config.broker_id,
            "uptime": round(state.uptime, 3),
            "connections": state.connections,
        }

    def _state(self) -> str:
        if self.wanted.is_set():
            return "stopping"
        return "starting" if self.broker is None else "serving"

    async def stats(self, item: str) -> str:
        """Return the text that answers `stats <item>` on the port."""
        return (await self._serving().broker.stats(item)).decode("utf-8", "replace")

    async def slave_status(self) -> Values:
        """Return how far the copying is. Raises MetaqError if this is no slave."""
        return await make(self._replica().values())

    async def promote(self, *, force: bool, wait: float, rest: Sequence[str]) -> Values:
        """Make a slave the master; return what is lost by that. Raises MetaqError or OSError."""
        replica = self._replica()
        return {"broker_id": self.config.broker_id, "lost": await replica.promote(force=force, wait=wait, rest=rest)}

    def _replica(self) -> Replica:
        replica = self._serving().broker.replica
        if replica is None:
            raise MetaqError("this broker is no asynchronous slave; one is started with `start slave`")
        return replica

    async def reload(self) -> Values:
        """Read server.ini again; return what has changed by that. Raises ConfigError."""
        return report(await self._serving().reload())

    async def change_topic(self, change: TopicChange) -> Values:
        """Create, alter or drop a topic; return what has become of it. Raises MetaqError or OSError."""
        done = await self._serving().changes.apply(change)
        return {"text": done.text, "kept": done.kept}

    def close_partitions(self, topic: str, first: int, last: int) -> None:
        """Answer puts and gets of these partitions with 403 from here on. Raises ValueError."""
        self._serving().broker.close_partitions(topic, first, last)

    def open_partitions(self, topic: str) -> None:
        """Take that back for all partitions of a topic."""
        self._serving().broker.open_partitions(topic)

    async def stop(self) -> None:
        """Stop in order; return when the broker has stopped, and raise what kept it from doing so."""
        self.wanted.set()
        await asyncio.shield(self.outcome)

    def finish(self, error: Exception | None) -> None:
        """Say how the broker has ended, to whoever waits for that."""
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)
            self.outcome.exception()  # it counts as asked for also when nobody waits

    def _serving(self) -> RunningBroker:
        if self.broker is None:
            raise MetaqError("the broker is still starting")
        return self.broker


def report(reloaded: Reloaded) -> dict[str, object]:
    """Return what a reload has done, as the control socket tells it."""
    return {
        "added": list(reloaded.added),
        "changed": list(reloaded.changed),
        "removed": list(reloaded.removed),
        "restart": list(reloaded.restart),
    }


@dataclass(frozen=True, slots=True)
class Manner:
    """How a broker is run. `local`: a registry that serves before the broker looks for it, and until it has left it."""

    local: Local | None = None
    role: Role | None = None


PLAIN: Final = Manner()


async def serve(
    config: BrokerConfig, home: Home | None, announce: Callable[[str], None], manner: Manner = PLAIN
) -> None:
    """Run a broker until it is told to stop. `announce` gets its addresses when it serves. Raises as metaq.app.run."""
    operator = Operator(config)
    control = None if home is None else ControlServer(str(home.socket), operator)

    def ready(broker: RunningBroker) -> None:
        operator.broker = broker
        settle_process()
        log.info("serving at %s", broker.address)
        announce(f"{broker.address} port={broker.port} pid={os.getpid()}")

    log.info("metaq %s, process %d, starts with %s", __version__, os.getpid(), config.path)
    with handled_signals(operator):
        try:
            if control is not None:
                await control.open()
            async with beside(manner.local, operator.wanted):
                await run_broker(config, ready=ready, stop=operator.wanted, role=manner.role)
            log.info("stopped in order")
            operator.finish(None)
        except (MetaqError, OSError) as exc:
            log.error("ended: %s", exc)
            operator.finish(exc)
            raise
        finally:
            operator.outcome.cancel()  # of no effect where there is an outcome
            if control is not None:
                await control.close()


@contextmanager
def handled_signals(operator: Operator) -> Iterator[None]:
    """SIGTERM and SIGINT stop in order, the second one at once; SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(reload_and_log(operator))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, operator, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        for task in tasks:
            task.cancel()


def end(operator: Operator, number: signal.Signals) -> None:
    """Begin to stop; while that is under way already, end this process: the log survives that as it does SIGKILL."""
    if operator.wanted.is_set():
        log.warning("%s while stopping: ending at once; the next start recovers", number.name)
        os._exit(128 + number)
    log.info("%s: stopping", number.name)
    operator.wanted.set()


async def reload_and_log(operator: Operator) -> None:
    """Reload because of a signal: there is only the log to tell of it."""
    try:
        done = await operator.reload()
    except (MetaqError, OSError) as exc:
        log.error("not reloaded: %s", exc)
    else:
        log.info("reloaded: %s", ", ".join(f"{key} {value}" for key, value in done.items()))
