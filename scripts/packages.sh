# Sourced by setup.sh: collects the Debian packages that are missing; root installs them, anybody else is told loudly.

missing=""
losses=""

# want PACKAGE LOSS : PACKAGE is missing; LOSS says what that means.
want() {
    missing="$missing $1"
    losses="$losses
  $1: $2"
}

want_java() {
    command -v javac >/dev/null || want "$(jdk_package)" "tests beside the Java client and broker are left out"
    command -v mvn >/dev/null || want maven "tests beside the Java client and broker are left out"
}

# The reference runs on Java 8 to 17; take the newest of these that this Debian has, else what there is.
jdk_package() {
    for version in 17 11 8; do
        if apt-cache show "openjdk-$version-jdk-headless" >/dev/null 2>&1; then
            echo "openjdk-$version-jdk-headless"
            return
        fi
    done
    echo default-jdk-headless
}

want_zookeeper() {
    [ -x /usr/share/zookeeper/bin/zkServer.sh ] || want zookeeper "tests with a real ZooKeeper are left out"
}

want_faketime() {
    ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || want faketime "tests with a clock that is set back are left out"
}

want_mariadb() {
    command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || want mariadb-server "tests with a real MariaDB are left out"
}

want_compiler() {
    command -v gcc >/dev/null || want gcc "the load generators cannot be compiled"
    [ -e /usr/include/zlib.h ] || want zlib1g-dev "the load generators cannot be compiled"
}

want_peers() {
    command -v redis-server >/dev/null || want redis-server "Redis is left out of the benchmark"
    command -v nats-server >/dev/null || command -v go >/dev/null || [ -x /usr/local/go/bin/go ] ||
        want nats-server "NATS is left out of the benchmark"
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || want rabbitmq-server "RabbitMQ is left out of the benchmark"
}

# Installs, never upgrades: what a machine has already is not ours to change.
install_wanted() {
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Debian packages:$missing" >&2
        # shellcheck disable=SC2086 # one word per package
        if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-upgrade --no-install-recommends $missing; } >&2; then
            missing=""
            return 0
        fi
    fi
    echo "*** MISSING, and not installed (only root can, with apt-get install$missing):$losses" >&2
}
