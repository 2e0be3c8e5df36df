"""Everything ZooKeeper: the tree of 1.4.6.2, who registers what in it, and who serves which partition."""
