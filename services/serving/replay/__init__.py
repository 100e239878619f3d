"""Answers that are made again from the lake's record of them, as they were or otherwise."""
