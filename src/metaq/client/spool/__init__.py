"""Messages kept on the disk of the client's machine until they are dealt with: durable queues of bytes.

folder = await spools.shared("/var/spool/app")     # or SpoolFolder.open(path, files, worker)
spool = await folder.spool("orders@billing")
await spool.append(b"...")                         # durable when this returns
for item in await spool.peek(100):
    ...
    await spool.drop()
"""

from metaq.client.spool.fifo import DEFAULT_LIMITS, Spool, SpoolLimits
from metaq.client.spool.folder import SharedFolder, SpoolFolder
from metaq.client.spool.spools import Path, Spools

__all__ = ["DEFAULT_LIMITS", "Path", "SharedFolder", "Spool", "SpoolFolder", "SpoolLimits", "Spools"]
