"""Routes about feature views: their declarations, and the features of one entity."""
