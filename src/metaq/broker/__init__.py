"""What commands do; no sockets, no ZooKeeper."""
