"""metaq: a durable, partitioned, replayable message log; MetaQ 1.4.6.2 again, in Python."""
