"""A registry for one machine: one server of ZooKeeper's client protocol. So far its codec; nothing serves it yet."""
