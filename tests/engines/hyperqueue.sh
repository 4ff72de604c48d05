#!/usr/bin/env bash
# A small sweep through HyperQueue on this machine, compared byte by byte with the same sweep by one process.
#
#   tests/engines/hyperqueue.sh PATH/TO/vxf [DIR]
#
# needs `hq` on the path. It starts a private server and worker under DIR and stops them at the end. The first worker is
# killed in the middle of a task; a second one has to begin the task again.
set -euo pipefail
. "$(dirname "$0")/sweep.sh"
vxf=$(realpath "$1")
dir=${2:-$(mktemp -d)}
command -v hq >/dev/null || { echo "hq is not on the path" >&2; exit 77; }
mkdir -p "$dir"
cd "$dir"
export HQ_SERVER_DIR="$dir/server"
trap 'hq server stop >/dev/null 2>&1 || true' EXIT
hq server start --host 127.0.0.1 >server.log 2>&1 &
for _ in $(seq 100); do hq server info >/dev/null 2>&1 && break; sleep 0.1; done
work() { hq worker start --cpus 2 --detect-resources none >"worker-$1.log" 2>&1 & }
work 1
worker=$!

alone
"$vxf" "${sweep[@]}" --output-dir cluster --executor hq --json >submitted.json
cat submitted.json

deadline=$((SECONDS + 300))
wait_for() { # WHAT COMMAND...
  local what=$1; shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || { echo "$what never came" >&2; hq job list --all; exit 1; }
    sleep 0.2
  done
}
wait_for "a checkpoint" has_checkpoint
kill -9 "$worker"
work 2
ended() { [ -z "$(hq --output-mode quiet job list --filter running,waiting)" ]; }
wait_for "the end of the tasks" ended
hq job list --all
hq job task-ids last

same HyperQueue
