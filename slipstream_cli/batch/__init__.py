"""`slipstream batch-recommend`: lists for every visitor, by the champion, in a file."""
