"""A world in one process: virtual time, an in-memory network, disks that forget what was not synced (design.md §5a)."""
