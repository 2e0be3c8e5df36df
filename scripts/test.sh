#!/bin/sh
# test.sh [pytest options] : runs the tests in two processes. METAQ_REQUIRE_ALL=1: a missing ZooKeeper or Java is a failure.
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/python -m pytest -q -n 2 --dist worksteal "$@"
