"""The message log: one journal, many partitions (design.md §2). The only code that touches message files."""
