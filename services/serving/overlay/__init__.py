"""New items of the catalogue beside a model that does not know them yet."""
