#!/bin/sh
# build.sh : fetches the Java client and broker 1.4.6.2 with Maven into build/java, compiles the judge, prints the class path.
# Does so once: a lock keeps parallel callers apart, a stamp over the sources tells whether it has been done.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../../build/java
mkdir -p "$out"
out=$(cd "$out" && pwd)

exec 9>"$out/lock"
flock 9
sources=$(cat "$here/pom.xml" "$here"/src/judge/*.java | sha256sum)
if [ "$(cat "$out/stamp" 2>/dev/null)" != "$sources" ]; then
    rm -rf "$out/lib" "$out/target"
    mvn -B -ntp -q -f "$here/pom.xml" compile dependency:copy-dependencies -DoutputDirectory="$out/lib" >&2
    echo "$sources" >"$out/stamp"
fi
echo "$here:$out/target/classes:$out/lib/*"
