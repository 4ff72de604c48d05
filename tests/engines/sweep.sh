# The sweep that the scripts beside this one give to an engine, and the comparison with one process. They source it.

sweep=(run --defense vaccine --seed 1,2 --harmful-ratio 0.2 --no-undefended --threads 1 --checkpoint-every 5
  --set world.alignment_samples=64 --set "alignment.epochs=${EPOCHS:-150}")

# Does it in one process, in `alone`.
alone() { "$vxf" "${sweep[@]}" --output-dir alone >alone.txt 2>alone.err; }

# Whether a run of `cluster` has saved a state.
has_checkpoint() { compgen -G 'cluster/checkpoints/*/aligned/*/step-*' >/dev/null; }

# Fails unless all runs of the experiment `cluster` are done and all of their files are those of `alone`; $1 names the
# engine, and $2 and $3 other names for the two.
same() {
  local alone=${2:-alone} cluster=${3:-cluster} file count=0
  if [ -n "$("$vxf" runs "$cluster" --pending)" ]; then
    echo "runs are missing:" >&2
    "$vxf" runs "$cluster" --pending >&2
    return 1
  fi
  "$vxf" resume "$cluster" >"$cluster.txt" 2>"$cluster.err"
  while read -r file; do
    # The time that a run took is in its records.
    if ! cmp -s <(sed '/"seconds"/d' "$alone/$file") <(sed '/"seconds"/d' "$cluster/$file"); then
      echo "$file differs" >&2
      return 1
    fi
    count=$((count + 1))
  done < <(cd "$alone" && find . -mindepth 2 -type f -not -path './.*' -not -path './checkpoints/*' | sort)
  [ "$count" -gt 0 ] || { echo "$alone has no runs" >&2; return 1; }
  diff <(grep -v '^All files' "$alone.txt") <(grep -v '^All files' "$cluster.txt")
  echo "$count files of all runs are the same, through $1 and by one process; $PWD"
}
