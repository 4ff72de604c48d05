#!/usr/bin/env bash
# A small sweep through Slurm on this machine, compared byte by byte with the same sweep by one process.
#
#   tests/engines/slurm.sh PATH/TO/vxf [DIR]
#
# needs Debian's packages slurm-wlm and munge, and root. It starts a private cluster of one node under DIR, with its own
# key, sockets and ports, and stops it at the end. One task is interrupted as Slurm does before a time limit, and has to
# be requeued; another is killed without a warning, and has to be submitted again.
#
# Exits with 77 where it cannot be tried: a program is missing, the cluster does not start, or the tasks end before they
# can be interrupted. Any other failure is ours.
set -euo pipefail
. "$(dirname "$0")/sweep.sh"
vxf=$(realpath "$1")
dir=${2:-$(mktemp -d)}
host=$(hostname -s)
for program in slurmctld slurmd sbatch munged mungekey; do
  command -v "$program" >/dev/null || { echo "$program is not installed: apt-get install slurm-wlm munge" >&2; exit 77; }
done

mkdir -p "$dir"/{munge,state,spool,log}
# munged wants a path that everybody may pass.
chmod 711 "$dir" "$dir/munge"
stop() {
  scancel --state=PENDING -u root 2>/dev/null || true
  for file in "$dir/slurmd.pid" "$dir/slurmctld.pid" "$dir/munge/munged.pid"; do
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  done
}
trap stop EXIT
mungekey -c -k "$dir/munge/munge.key"
chmod 600 "$dir/munge/munge.key"
munged --key-file="$dir/munge/munge.key" --socket="$dir/munge/munge.sock" --pid-file="$dir/munge/munged.pid" \
  --log-file="$dir/munge/munged.log" --seed-file="$dir/munge/munged.seed" || exit 77
# cred_expire is also how long a requeued task waits; 5 s is the least that Slurm takes.
cat > "$dir/slurm.conf" <<CONF
ClusterName=vxftest
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.sock,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MaxArraySize=5
MinJobAge=300
InactiveLimit=0
KillWait=5
CompleteWait=0
JobRequeue=1
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=2048 State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$dir/slurm.conf"
idle() { [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; }
if slurmctld && slurmd; then
  for _ in $(seq 200); do idle && break; sleep 0.1; done
fi
idle || { echo "the cluster does not start:" >&2; tail -n 5 "$dir"/log/* >&2 || true; exit 77; }
sinfo

cd "$dir"
alone
# A limit of five indices: four aligned and four attacked runs take two arrays.
"$vxf" "${sweep[@]}" --output-dir cluster --executor slurm --workers 2 --json >submitted.json
cat submitted.json
first=$(sed -n 's/^ *"jobs": \[//p;' submitted.json | tr -dc 0-9)
[ -n "$first" ] || first=$(grep -A1 '"jobs"' submitted.json | tail -1 | tr -dc 0-9)

deadline=$((SECONDS + 900))
late() { echo "the tasks ended before $1" >&2; squeue -r -t all >&2; exit 77; }
wait_for() { # WHAT COMMAND...
  local what=$1; shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || { echo "$what never came" >&2; squeue -r -t all; tail -n 20 log/*; exit 1; }
    sleep 0.2
  done
}
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
ended() { [ -z "$(squeue -h)" ]; }
wait_for "the end of the jobs" ended
squeue -r -t all -o '%A %K %T'

if [ -n "$("$vxf" runs cluster --pending)" ]; then
  echo "pending after the kill:"; "$vxf" runs cluster --pending
  "$vxf" "${sweep[@]}" --output-dir cluster --executor slurm --workers 2
  sleep 1
  wait_for "the end of the second submission" ended
fi
same Slurm
