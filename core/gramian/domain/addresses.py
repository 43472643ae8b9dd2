"""Addresses that a server must not be made to call: link-local ones and the metadata services of clouds."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_FORBIDDEN = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local, the metadata services of AWS, Azure, Google
        "fe80::/10",  # link-local
        "fd00:ec2::/32",  # AWS metadata and DNS
        "fd20:ce::254/128",  # Google metadata
        "100.100.100.200/32",  # Alibaba metadata
        "192.0.0.192/32",  # Oracle metadata
    )
)


def is_forbidden(address: str) -> bool:
    """Whether the literal IP `address` is off limits. Raises ValueError if it is no IP address."""
    ip = _unmapped(ip_address(address))
    return any(ip in network for network in _FORBIDDEN)


def _unmapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """::ffff:a.b.c.d reaches a.b.c.d, and so must be judged as that."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
