#!/usr/bin/env bash
# The tables of docs/results.md through Slurm, compared byte by byte with the same tables by one process.
#
#   tests/engines/tables.sh PATH/TO/vxf DIR [TABLE...]     for example t1 t6; all of them without a name
#
# Needs what slurm.sh needs. The experiments stay under DIR: `t1` by one process, `t1-slurm` through Slurm.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
. "$here/sweep.sh"
. "$here/cluster.sh"
vxf=$(realpath "$1")
dir=$2
shift 2
mkdir -p "$dir"
dir=$(realpath "$dir")
# A cluster of before has other sockets.
start_cluster "$(mktemp -d)" 1001

# Each command of the page is one line, and its last word names the table.
commands=$(sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join}' "$here/../../docs/results.md" | grep '^vxf run .*--output-dir')
cd "$dir"
while read -r _ run; do
  read -ra words <<<"$run"
  table=${words[-1]}
  unset 'words[-1]'
  [ $# = 0 ] || [[ " $* " == *" $table "* ]] || continue
  "$vxf" "${words[@]}" "$table" >"$table.txt" 2>"$table.err"
  "$vxf" "${words[@]}" "$table-slurm" --executor slurm --workers 2
  deadline=
  wait_for "the end of the jobs of $table" ended
  same Slurm "$table" "$table-slurm"
done <<<"$commands"
