"""What importing the protocol brings along."""

import subprocess
import sys


def test_importing_the_protocol_loads_no_event_loop_no_socket_and_no_zookeeper() -> None:
    code = (
        "import sys, metaq.protocol.decoder, metaq.protocol.encoder, metaq.record, metaq.txid;"
        "print([name for name in ('asyncio', 'socket', 'kazoo', 'uvloop', 'logging') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.strip() == "[]"
