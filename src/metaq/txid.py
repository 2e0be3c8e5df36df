"""Transaction ids and how they are written on the wire and in the journal (protocol.md §6.2)."""

from typing import TypeAlias

TransactionId: TypeAlias = str  # replaced by the values of this module
