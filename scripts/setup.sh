#!/bin/sh
# setup.sh demo|test|check|docs|bench : makes .venv and installs what that target of the Makefile needs.
# PYTHON names the interpreter (3.11 or later). Leaves .venv/.ready-TARGET, which make compares with pyproject.toml; not
# while a Debian package is missing, so that every run says again what it leaves out.
set -eu
cd "$(dirname "$0")/.."
. scripts/packages.sh

target=$1
python=${PYTHON:-python3}
case $target in
    demo) extras="" ;;
    bench) extras="[fast]" ;;
    docs) extras="[docs]" ;;
    *) extras="[test,check]" ;;
esac

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "metaq needs Python 3.11 or later; name one with: make $target PYTHON=/path/to/python3" >&2
    exit 1
}
"$python" -c 'import ensurepip' 2>/dev/null || want python3-venv "no virtual environment can be made"
case $target in
    test | bench) want_java; want_zookeeper ;;
esac
if [ "$target" = test ]; then
    want_mariadb
    want_faketime
fi
if [ "$target" = bench ]; then
    want_compiler
    want_peers
fi
install_wanted

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$extras"
if [ "$target" = bench ]; then # one by one: what cannot be installed leaves its peer out of the benchmark
    grep -v '^#' bench/peers/requirements.txt | while read -r package; do
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "$package" || echo "*** not installed: $package" >&2
    done
fi
[ -n "$missing" ] || touch ".venv/.ready-$target"
