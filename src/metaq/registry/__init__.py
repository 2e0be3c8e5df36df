"""A registry for one machine: one server of ZooKeeper's client protocol. Codec and tree so far; nothing serves them."""
