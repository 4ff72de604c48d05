#!/usr/bin/env bash
# A small sweep through HyperQueue on this machine, compared byte by byte with the same sweep by one process.
#
#   tests/engines/hyperqueue.sh PATH/TO/vxf [DIR]
#
# With `hq` on the path it starts a private server and worker under DIR, submits the tasks as a user does, and kills the
# worker in the middle of a task; a second worker has to begin the task again. Without `hq`, but with the Python package
# `hyperqueue` (for $PYTHON), the tasks run through that. It exits with 77 where there is neither.
set -euo pipefail
engines=$(realpath "$(dirname "$0")")
. "$engines/sweep.sh"
vxf=$(realpath "$1")
dir=${2:-$(mktemp -d)}
# Its path is looked up here, before the directory changes.
python=$(command -v "${PYTHON:-python3}" || true)
[ -z "$python" ] || python=$(realpath -s "$python")
mkdir -p "$dir"
dir=$(realpath "$dir")

through_hq() {
  export HQ_SERVER_DIR="$dir/server"
  trap 'hq server stop >/dev/null 2>&1 || true' EXIT
  hq server start --host 127.0.0.1 >server.log 2>&1 &
  for _ in $(seq 100); do hq server info >/dev/null 2>&1 && break; sleep 0.1; done
  work() { hq worker start --cpus 2 --detect-resources none >"worker-$1.log" 2>&1 & }
  work 1
  worker=$!
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
}

through_the_wheel() {
  "$vxf" "${sweep[@]}" --output-dir cluster --executor hq --dry-run --json >submitted.json
  cat submitted.json
  field() { "$python" -c 'import json, sys; print(json.load(open("submitted.json"))[sys.argv[1]])' "$1"; }
  timeout 600 "$python" "$engines/wheel.py" "$(field script)" "$(field pending)" 2 >wheel.log 2>&1 ||
    { cat wheel.log cluster/logs/*.err >&2; exit 1; }
}

cd "$dir"
if command -v hq >/dev/null; then
  through=through_hq
elif [ -n "$python" ] && "$python" -c 'import hyperqueue' 2>/dev/null; then
  through=through_the_wheel
else
  echo "neither hq nor the Python package hyperqueue is here" >&2
  exit 77
fi
alone
"$through"
same HyperQueue
