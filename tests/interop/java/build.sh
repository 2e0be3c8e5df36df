#!/bin/sh
# build.sh : fetches the Java client and broker 1.4.6.2 with Maven into build/java, compiles the judge, prints the class path.
# Does so once: a lock keeps parallel callers apart, a stamp over the sources tells whether it has been done.
# The class path is of jars only, so that their classes can lie ready in build/java/classes.jsa, as a JVM has them in
# memory: it starts with half the work. A JVM that cannot make such a file, or read it, does without.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../../build/java
mkdir -p "$out"
out=$(cd "$out" && pwd)

exec 9>"$out/lock"
flock 9
sources=$(cat "$0" "$here/pom.xml" "$here"/*.properties "$here"/src/judge/*.java | sha256sum)
if [ "$(cat "$out/stamp" 2>/dev/null)" != "$sources" ]; then
    rm -rf "$out/lib" "$out/target" "$out/classes.jsa" "$out/stamp"
    mvn -B -ntp -q -f "$here/pom.xml" compile dependency:copy-dependencies -DoutputDirectory="$out/lib" >&2
    jar cf "$out/lib/a-judge.jar" -C "$out/target/classes" . -C "$here" log4j.properties -C "$here" build.properties
    echo "$out"/lib/*.jar | tr ' ' ':' >"$out/path"
    java=$(readlink -f "$(command -v java)")
    cat "${java%/bin/java}/lib/classlist" >"$out/classes" 2>/dev/null || true
    java -cp "$(cat "$out/path")" judge.Classes >>"$out/classes"
    java -Xshare:dump -XX:SharedClassListFile="$out/classes" -XX:SharedArchiveFile="$out/classes.jsa" \
        -XX:+UseG1GC -Xmx256m -cp "$(cat "$out/path")" >"$out/classes.log" 2>&1 || rm -f "$out/classes.jsa"
    echo "$sources" >"$out/stamp"
fi
cat "$out/path"
