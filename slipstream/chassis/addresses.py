"""Addresses of clients, as they are counted."""

import ipaddress
from functools import lru_cache


@lru_cache(4_096)
def network_of(address: str) -> str:
    """The address; for IPv6 the /64 around it, all of which one household has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Address(int(ip) >> 64 << 64))
