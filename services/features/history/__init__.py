"""History: the stream's rows on their way to the lake, and from there backfills and training."""
