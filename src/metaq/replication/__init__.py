"""Copies of a log on another broker."""
