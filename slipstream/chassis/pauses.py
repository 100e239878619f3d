"""Pauses between attempts: short after the first failure, and each twice as long as the last."""


def pause_after(failures: int, first_s: float, longest_s: float) -> float:
    """The seconds to wait before the next attempt. `failures` are those in a row so far, at least
    1.
    """
    # A count of days would overflow a float.
    return min(first_s * 2.0 ** min(failures - 1, 64), longest_s)
