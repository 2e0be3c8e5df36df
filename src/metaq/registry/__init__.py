"""A registry for one machine: one server of ZooKeeper's client protocol (docs/registry.md).

From the socket to the disk: connection, frames → requests → machine → tree, watches, sessions, access → changes → log.
`running` opens and serves a folder.
"""
