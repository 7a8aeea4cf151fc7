#!/usr/bin/env bash
# Puts a Chromium on this machine for the tests of the page, unless one is there. Debian's and its relatives' way.
set -euo pipefail

for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome google-chrome-stable; do
  if command -v "$name" > /dev/null; then exit 0; fi
done

fail() {
  echo "The tests of the page need Chromium, and $1. Install one, or set CHROMIUM to a browser's path." >&2
  exit 1
}

command -v apt-get > /dev/null || fail "there is no apt-get here to install it with"
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo > /dev/null || fail "installing it needs root"
  as_root=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq || fail "apt-get cannot read its sources"
"${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium > /dev/null || fail "apt-get could not install it"
