"""`python -m workers.local.edge`: fetch the npm packages that the local deployment runs on. Needed once."""

from __future__ import annotations

import sys

from workers.local.edge.deno import fetch_packages

if __name__ == "__main__":
    sys.exit(fetch_packages())
