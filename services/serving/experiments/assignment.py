"""The assignment of visitors to variants: sticky, since a hash alone decides it.

A visitor's position is the first 8 bytes of BLAKE2b (RFC 7693) of salt, a zero byte and the id, as
a big-endian number, over 2^64. The share of visitors who take part is decided by another hash, with
`traffic` before it: whoever takes part keeps the variant when the share grows.
"""

from hashlib import blake2b
from itertools import accumulate

from slipstream.contracts.experiments import HOLDOUT, INTERLEAVED, Experiment


def assigned(experiment: Experiment, user_id: str) -> str:
    """The name of a visitor's variant; `holdout` for one who does not take part.

    `interleaved` where a visitor gets both variants in one list. Where one is the other's shadow,
    it is the first, which is shown.
    """
    design = experiment.design
    salt = design.salt or experiment.name
    if position(f"traffic\0{salt}", user_id) >= design.traffic:
        return HOLDOUT
    if design.kind == "interleave":
        return INTERLEAVED
    if design.kind == "shadow":
        return design.variants[0].name
    *bounds, total = accumulate(variant.weight for variant in design.variants)
    place = position(salt, user_id) * total
    passed = sum(place >= bound for bound in bounds)
    return design.variants[passed].name


def position(salt: str, user_id: str) -> float:
    """The position of a visitor, from 0 to below 1, the same for ever."""
    digest = blake2b(f"{salt}\0{user_id}".encode()).digest()
    # The upper 53 bits: a float has no more, and all of 64 could be rounded to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53
