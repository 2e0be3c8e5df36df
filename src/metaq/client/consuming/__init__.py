"""Consumers: members of a group that share the partitions of its topics (reference: SimpleMessageConsumer)."""
