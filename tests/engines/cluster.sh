# A private Slurm of one node, for the scripts beside this one, which source it.
#
# It needs Debian's packages slurm-wlm and munge, and root; it has its own key, sockets and ports.

stop_cluster() {
  local file pid
  # No job of it goes on writing. SLURM_CONF names this cluster, so that no other one is asked.
  scancel -u root 2>/dev/null || true
  for _ in $(seq 100); do [ -n "$(squeue -h 2>/dev/null)" ] || break; sleep 0.1; done
  for file in "$cluster_dir"/{slurmd.pid,slurmctld.pid,munge/munged.pid}; do
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    kill "$pid" 2>/dev/null || continue
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  done
}

# Starts the cluster under the directory $1, with at most $2 indices in an array. It is stopped when the script ends.
# Exits with 77 where there can be no cluster.
start_cluster() {
  local dir array=$2 host program
  mkdir -p "$1"
  dir=$(realpath "$1")
  host=$(hostname -s)
  for program in slurmctld slurmd sbatch munged mungekey; do
    command -v "$program" >/dev/null || { echo "$program is not installed: apt-get install slurm-wlm munge" >&2; exit 77; }
  done

  mkdir -p "$dir"/{munge,state,spool,log}
  # munged wants a path that everybody may pass.
  chmod 711 "$dir" "$dir/munge"
  cluster_dir=$dir
  export SLURM_CONF="$dir/slurm.conf"
  trap stop_cluster EXIT
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
MaxArraySize=$array
MinJobAge=300
InactiveLimit=0
KillWait=5
CompleteWait=0
JobRequeue=1
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=2048 State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  idle() { [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; }
  if slurmctld && slurmd; then
    for _ in $(seq 200); do idle && break; sleep 0.1; done
  fi
  idle || { echo "the cluster does not start:" >&2; tail -n 5 "$dir"/log/* >&2 || true; exit 77; }
  sinfo
}

# Waits until the command succeeds, for at most WAIT seconds (900).
wait_for() { # WHAT COMMAND...
  local what=$1 deadline=$((SECONDS + ${WAIT:-900}))
  shift
  until "$@"; do
    [ $SECONDS -lt "$deadline" ] || { echo "$what never came" >&2; squeue -r -t all; tail -n 20 "$cluster_dir"/log/*; exit 1; }
    sleep 0.2
  done
}

# Whether no job is left.
ended() { [ -z "$(squeue -h)" ]; }
