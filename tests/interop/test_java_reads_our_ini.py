"""The Java broker starts on every server.ini that we write, document or must support."""

import re
from pathlib import Path
from typing import Final

import pytest

from metaq.config.write import Draft, server_ini
from tests.interop.conftest import Brokers

ROOT: Final = Path(__file__).parents[2]
DOCUMENTED: Final = [
    (f"{page.name} {n}", sample)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for n, sample in enumerate(re.findall(r"^```ini\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL), 1)
]
WRITTEN: Final = [
    ("a new home", server_ini(Draft())),
    (
        "a new home with everything",
        server_ini(
            Draft(
                topics=("orders", "a*"),
                num_partitions=16,
                zookeeper=None,
                data_path="/var/lib/métà \\q",
                host_name="127.0.0.1",
                bind_address="127.0.0.1",
                synced=False,
            )
        ),
    ),
]
SEED: Final = [("the deployment", (ROOT / "tests" / "data" / "seed" / "server.ini").read_text("ascii"))]
FILES: Final = [*SEED, *WRITTEN, *DOCUMENTED]


def test_there_is_something_documented() -> None:
    assert len(DOCUMENTED) >= 2


@pytest.mark.parametrize("text", [text for _, text in FILES], ids=[name for name, _ in FILES])
async def test_the_java_broker_starts_on_it(java_broker: Brokers, text: str) -> None:
    await java_broker(text)  # fails with the broker's own words unless it serves
