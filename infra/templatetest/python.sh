#!/bin/sh
# Prints the path of a Python that has infra/pyrequirements/requirements.txt installed. It lives in the user's cache,
# under the checksum of that file, and is made on first use. Needs python3 with venv and pip.
set -eu
requirements="$(cd "$(dirname "$0")/../pyrequirements" && pwd)/requirements.txt"
sum=$(cksum <"$requirements" | tr -c '0-9\n' '-')
venv="${XDG_CACHE_HOME:-$HOME/.cache}/sorrel/python-$sum"
if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2
    touch "$venv/complete"
fi
echo "$venv/bin/python"
