"""Routes, bodies and cursors of serving."""
