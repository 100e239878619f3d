"""Models from before an erasure: they are replaced, and deleted within a stated time."""
