"""Synchronous pair: one master (samsa), one slave (gregor), and a message is there when both have it."""
