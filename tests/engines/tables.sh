#!/usr/bin/env bash
# The tables of docs/results.md through Slurm, compared byte by byte with the same tables by one process.
#
#   tests/engines/tables.sh PATH/TO/vxf DIR [TABLE...]     for example t1 t6; all of them without a name
#
# Needs Debian's packages slurm-wlm and munge, and root. The experiments stay under DIR: `t1` by one process, `t1-slurm`
# through Slurm. A table may take WAIT seconds (900).
set -euo pipefail
here=$(realpath "$(dirname "$0")")
. "$here/sweep.sh"
. "$here/cluster.sh"
vxf=$(realpath "$1")
dir=$2
shift 2
mkdir -p "$dir"
dir=$(realpath "$dir")
# Each command of the page is one line, and its last word names the table.
commands=$(sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join}' "$here/../../docs/results.md" | grep '^vxf run .*--output-dir')
for table in "$@"; do
  grep -q -- "--output-dir $table\$" <<<"$commands" || { echo "results.md has no table $table" >&2; exit 2; }
done
# A new directory each time: one of an earlier cluster has its key and sockets.
start_cluster "$(mktemp -d)" 1001

cd "$dir"
while read -r _ run <&3; do
  read -ra words <<<"$run"
  table=${words[-1]}
  unset 'words[-1]'
  [ $# = 0 ] || [[ " $* " == *" $table "* ]] || continue
  "$vxf" "${words[@]}" "$table" >"$table.txt" 2>"$table.err"
  "$vxf" "${words[@]}" "$table-slurm" --executor slurm --workers 2
  wait_for "the end of the jobs of $table" ended
  same Slurm "$table" "$table-slurm"
done 3<<<"$commands"
