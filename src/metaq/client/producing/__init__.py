"""Producers that keep what they cannot send on the disk of their machine."""
