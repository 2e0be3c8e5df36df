"""Metrics for Prometheus, served while a broker runs: `metricsAddress` in [pymetaq] (docs/metrics.md)."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from metaq.admin.views import look
from metaq.broker.broker import Broker
from metaq.errors import ConfigError
from metaq.ports import World
from metaq.store.awaiting import in_thread

log = logging.getLogger(__name__)

PATH: Final = "/metrics"


@asynccontextmanager
async def serving_metrics(broker: Broker, world: World) -> AsyncIterator[int]:
    """Serve metrics while the block runs, if the configuration says where; yield the port, 0: they are not served.

    Raises ConfigError if the extra is not installed, or the address not to be had.
    """
    config = broker.config
    if config.metrics_address is None:
        yield 0
        return
    host, port = config.metrics_address
    where = f"{config.path}: metricsAddress={host}:{port}"
    try:
        from metaq.admin import families, http  # noqa: PLC0415 - they need an extra
    except ImportError as exc:
        raise ConfigError(f"{where}: metrics need more packages: pip install 'pymetaq[metrics]' ({exc})") from exc

    async def make(accept: str) -> tuple[str, bytes]:
        view = await look(broker)
        # long work with many partitions: in a thread of its own, for the loop to have its turns meanwhile
        write = partial(families.exposition, view, accept, partitions=config.metrics_partitions)
        return await in_thread(world, "metaq-metrics", write)

    server = http.Server(world.network, PATH, make)
    try:
        await server.open(host, port)
    except OSError as exc:
        raise ConfigError(f"{where}: cannot listen there: {exc}") from exc
    log.info("metrics are at http://%s:%d%s", f"[{host}]" if ":" in host else host, server.port, PATH)
    try:
        yield server.port
    finally:
        await server.close()
