#!/usr/bin/env bash
# A small sweep through Slurm on this machine, compared byte by byte with the same sweep by one process.
#
#   tests/engines/slurm.sh PATH/TO/vxf [DIR]
#
# One task is interrupted as Slurm does before a time limit, and has to be requeued; another is killed without a warning,
# and has to be submitted again.
#
# Exits with 77 where it cannot be tried: a program is missing, the cluster does not start, or the tasks end before they
# can be interrupted. Any other failure is ours.
set -euo pipefail
. "$(dirname "$0")/sweep.sh"
. "$(dirname "$0")/cluster.sh"
vxf=$(realpath "$1")
dir=${2:-$(mktemp -d)}
mkdir -p "$dir"
dir=$(realpath "$dir")
start_cluster "$dir" 5
cd "$dir"
alone
# A limit of five indices: four aligned and four attacked runs take two arrays.
"$vxf" "${sweep[@]}" --output-dir cluster --executor slurm --workers 2 --json >submitted.json
cat submitted.json
first=$(sed -n 's/^ *"jobs": \[//p;' submitted.json | tr -dc 0-9)
[ -n "$first" ] || first=$(grep -A1 '"jobs"' submitted.json | tail -1 | tr -dc 0-9)

late() { echo "the tasks ended before $1" >&2; squeue -r -t all >&2; exit 77; }
wait_for "a checkpoint" has_checkpoint
# The warning before a time limit: the task saves, exits with 75, and is requeued.
scancel --batch --signal=USR1 "${first}_0" || late "one could be interrupted"
requeued() {
  local job
  job=$(scontrol show job "${first}_0" -o)
  [[ $job != *JobState=COMPLETED*Restarts=0* ]] || late "one was requeued"
  [[ $job == *Restarts=1* ]]
}
wait_for "the requeued task" requeued
# A worker that is killed fails, and is submitted again at the end.
killed() {
  [ -n "$(squeue -h)" ] || late "one could be killed"
  pid=$(pgrep -f "task --threads=1 .*$dir/cluster" | head -1) && kill -9 "$pid"
}
wait_for "a task to kill" killed
wait_for "the end of the jobs" ended
squeue -r -t all -o '%A %K %T'

if [ -n "$("$vxf" runs cluster --pending)" ]; then
  echo "pending after the kill:"; "$vxf" runs cluster --pending
  "$vxf" "${sweep[@]}" --output-dir cluster --executor slurm --workers 2
  sleep 1
  wait_for "the end of the second submission" ended
fi
same Slurm
