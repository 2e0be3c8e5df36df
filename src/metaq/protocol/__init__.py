"""The wire of MetaQ 1.4.6.2, sans I/O: decoder (bytes → commands), encoder (commands → bytes); docs/protocol.md."""
