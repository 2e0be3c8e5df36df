"""asyncio only; knows commands, not what they do."""
