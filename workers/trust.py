"""Whose certificates this process believes. They are read once, since reading them takes 20 ms."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """For all clients of this process; any number of threads may use it, none may change it."""
    return httpx.create_ssl_context()
