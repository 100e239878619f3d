"""The catalogue in memory: availability and attributes of items, and items that are alike."""
