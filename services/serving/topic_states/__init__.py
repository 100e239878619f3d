"""States in memory, as a compacted topic of monitoring has them: placements and experiments."""
