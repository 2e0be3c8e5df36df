#!/bin/sh
# metaServer.sh WORD [ARGUMENTS] : looks after the broker of this home.
# The words are those of MetaQ 1.4.6.2; they are passed on to `metaq server`.

usage() {
    cat >&2 <<'TEXT'
Usage: metaServer.sh WORD [ARGUMENTS]

  start [local|slave|samsa|gregor]   start the broker; returns when it serves
  stop                               stop it, in order
  restart [local|slave|samsa|gregor] stop it if it runs, then start it
  status                             say whether it runs
  reload                             read conf/server.ini again
  stats [-item X]                    print statistics; X: topics, offsets, realtime, help, ...
  slave-status                       print how far an asynchronous slave is
  open-partitions -topic T           open all closed partitions of a topic
  close-partitions -topic T -start N -end M
                                     close partitions N to M of a topic
  delete-partitions -dataDir D -topic T -start N -end M [-f]
                                     delete partition folders of a stopped broker
  move-partitions -dataDir D -topic T -start N -end M -offset K
                                     renumber partition folders of a stopped broker
  query [-j FILE]                    look at offsets of consumers
  help                               print this
TEXT
}

# The folder above the one this script is in, whatever links led here; BASE_DIR names another one.
find_base() {
    script=$0
    while [ -h "$script" ]; do
        target=$(readlink "$script")
        case $target in
            /*) script=$target ;;
            *) script=$(dirname "$script")/$target ;;
        esac
    done
    CDPATH='' cd "$(dirname "$script")/.." && pwd -P
}

METAQ_HOME=${BASE_DIR:-$(find_base)} || exit 1
export METAQ_HOME
if [ -r "$METAQ_HOME/bin/env.sh" ]; then
    . "$METAQ_HOME/bin/env.sh"
fi

metaq_server() {
    if [ -n "${METAQ_PYTHON:-}" ] && [ -x "$METAQ_PYTHON" ]; then
        exec "$METAQ_PYTHON" -P -m metaq server "$@"
    fi
    exec metaq server "$@"
}

word=${1:-}
[ $# -eq 0 ] || shift
case $word in
    start | restart)
        case ${1:-} in
            local | slave | samsa | gregor | -* | '') ;;
            *) shift ;; # 1.4.6.2 starts a plain broker on any other word
        esac
        if [ "${enableHttp:-false}" = true ] && [ -z "${1:-}" ]; then
            set -- -F "jettyBroker=$METAQ_HOME/conf/jettyBroker.properties"
        fi
        metaq_server "$word" "$@"
        ;;
    stop | status | reload | stats | slave-status | open-partitions | close-partitions | delete-partitions | move-partitions | query)
        metaq_server "$word" "$@"
        ;;
    help)
        usage
        ;;
    *)
        usage
        exit 1
        ;;
esac
