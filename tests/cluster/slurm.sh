#!/usr/bin/env bash
# A Slurm cluster to throw away: five virtual nodes on this machine, each with GPUs that are names only, and accounting.
#
#   partition   nodes
#   cpu, gpu    n1, n2   for everything that does not say otherwise
#   spot        n3       a job here is requeued as soon as one of `urgent` wants the node
#   pair        n4, n5   one of them may be lost
#
#   slurm.sh run COMMAND...   up, COMMAND with the cluster in its environment, down (whatever happens but SIGKILL)
#   slurm.sh install          installs what is missing with apt-get
#   slurm.sh up               the same, then writes the configuration and starts the daemons
#   slurm.sh status           nodes and jobs, the finished ones too
#   slurm.sh down             cancels all jobs, stops the daemons, removes every file
#   slurm.sh clear            down, if nobody uses the cluster any more; up and run do so by themselves
#
# Needs root. Everything listens on loopback and lives in $PLDREPRO_CLUSTER; the only thing outside is a symbolic link at
# /etc/slurm/slurm.conf, because jobs of Snakemake's Slurm executor look for the cluster there and nowhere else.
set -euo pipefail

export PLDREPRO_CLUSTER=${PLDREPRO_CLUSTER:-/tmp/pldrepro-cluster}
NODES=5
GPUS=2          # scheduling tokens of a node
CPUS=8          # cores that a node claims to have; the machine may have fewer
MEMORY=16000    # [MiB] that a node claims to have
LINK=/etc/slurm/slurm.conf
HERE=$PLDREPRO_CLUSTER
export SLURM_CONF=$HERE/slurm.conf

fail() {
  echo "test-cluster: $*" >&2
  exit 1
}

check() {
  [ "$(id -u)" = 0 ] || fail "needs root: it installs Debian's Slurm where that is missing, and starts its daemons"
  if [ -L "$LINK" ] && grep -qsx 'ClusterName=throwaway' "$LINK" && [ "$(readlink "$LINK")" != "$SLURM_CONF" ]; then
    PLDREPRO_CLUSTER=$(dirname "$(readlink "$LINK")") "$0" clear
  else
    clear_abandoned
  fi
  if [ -e "$LINK" ] || [ -L "$LINK" ]; then fail "$LINK exists: this machine has a Slurm of its own, left alone"; fi
  [ ! -e "$HERE" ] || fail "$HERE exists"
}

# Whether a process is a living daemon of the cluster: its number may be that of a dead one, or of another program by now.
is_daemon() {
  case $(readlink "/proc/$1/exe") in
    */munged* | */slurm* | */mariadbd*) return 0 ;;
  esac
  return 1
}

# Whether a daemon of the cluster, or the command that it was started for, is alive.
in_use() {
  local file id
  # `run` and its command hold a lock on this file as long as they live; daemons of a cluster that nobody holds serve nobody.
  if [ -e "$HERE/held" ]; then
    ! flock --nonblock "$HERE/held" true
    return
  fi
  for file in "$HERE"/pid/*; do
    id=$(cat "$file" 2> /dev/null) || continue
    is_daemon "$id" && return
  done
  return 1
}

# A cluster whose processes were killed, or whose machine was, is taken down here; one in use is left alone.
clear_abandoned() {
  [ -e "$SLURM_CONF" ] || [ "$(readlink "$LINK")" = "$SLURM_CONF" ] || return 0
  ! in_use || fail "a cluster is up in $HERE: PLDREPRO_CLUSTER=$HERE $0 down"
  echo "test-cluster: the cluster in $HERE was not taken down and nobody uses it: done now" >&2
  down
}

install() {
  local command
  for command in munged slurmctld slurmd sbatch slurmdbd mariadbd; do
    command -v $command > /dev/null && continue
    command -v apt-get > /dev/null || fail "needs $command, or apt-get to install it"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      munge slurmctld slurmd slurm-client slurmdbd mariadb-server-core > /dev/null
    return
  done
}

# Numbers of TCP ports that nobody uses.
free_ports() {
  python3 - "$1" << 'END'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in sockets))
END
}

configure() {
  local ports node gpu host
  host=$(hostname -s)
  : > "$SLURM_CONF"
  mkdir "$HERE"/{log,pid,munge,spool,state}
  chmod 0755 "$HERE" "$HERE/munge"
  (umask 077 && head -c 1024 /dev/urandom > "$HERE/munge/key")
  # Slurm takes only character devices for GPUs: these are copies of /dev/null.
  for gpu in $(seq 0 $((GPUS - 1))); do mknod "$HERE/gpu$gpu" c 1 3; done
  printf 'AutoDetect=off\nName=gpu File=%s/gpu[0-%d]\n' "$HERE" $((GPUS - 1)) > "$HERE/gres.conf"
  read -r -a ports <<< "$(free_ports $((NODES + 2)))"
  local database=${ports[$((NODES + 1))]}
  cat > "$HERE/slurmdbd.conf" << END
AuthType=auth/munge
AuthInfo=socket=$HERE/munge/socket
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$database
CommunicationParameters=NoInAddrAny
SlurmUser=root
PidFile=$HERE/pid/slurmdbd
LogFile=$HERE/log/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
END
  chmod 0600 "$HERE/slurmdbd.conf"
  {
    cat << END
ClusterName=throwaway
SlurmctldHost=$host(127.0.0.1)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=${ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits as long as a credential lasts [s], by default 120.
AuthInfo=socket=$HERE/munge/socket,cred_expire=20
CredType=cred/munge
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$database
AccountingStoragePass=$HERE/munge/socket
SlurmctldPidFile=$HERE/pid/slurmctld
SlurmctldLogFile=$HERE/log/slurmctld
SlurmdPidFile=$HERE/pid/slurmd.%n
SlurmdLogFile=$HERE/log/slurmd.%n
SlurmdSpoolDir=$HERE/spool/%n
StateSaveLocation=$HERE/state
ReturnToService=2
# No control groups, no systemd. As with control groups, what the first process of a job leaves behind is killed.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
# As on a real cluster: cores, memory and GPUs are what jobs compete for, and a job over its memory is killed.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# squeue and scontrol know finished jobs for this long [s].
MinJobAge=3600
# From SIGTERM to SIGKILL [s].
KillWait=20
END
    for node in $(seq $NODES); do
      echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[$node]} CPUs=$CPUS" \
        "RealMemory=$MEMORY Gres=gpu:$GPUS"
    done
    echo "PartitionName=cpu Nodes=n[1-2] Default=YES"
    echo "PartitionName=gpu Nodes=n[1-2]"
    echo "PartitionName=spot Nodes=n3 PriorityTier=1"
    echo "PartitionName=urgent Nodes=n3 PriorityTier=2"
    echo "PartitionName=pair Nodes=n[4-5]"
  } > "$SLURM_CONF"
  mkdir -p "$(dirname "$LINK")"
  ln -s "$SLURM_CONF" "$LINK"
}

idle_nodes() {
  timeout 2 sinfo --noheader --Node --states=idle --format=%N 2> /dev/null | sort -u | wc -l
}

# The database of the accounting, behind a socket only, which whoever can reach may use.
start_database() {
  local mariadb=(mariadbd --no-defaults --user=root --datadir="$HERE/database"
    --innodb-buffer-pool-size=32M --innodb-log-file-size=8M)
  mkdir -p "$HERE/database/mysql"
  { echo 'use mysql;' && cat /usr/share/mysql/mysql_system_tables.sql; } |
    "${mariadb[@]}" --bootstrap 2> "$HERE/log/mariadb-bootstrap"
  setsid "${mariadb[@]}" --socket="$HERE/database/socket" --pid-file="$HERE/pid/mariadbd" --skip-networking \
    --skip-grant-tables > "$HERE/log/mariadbd" 2>&1 9>&- &
  wait_for [ -S "$HERE/database/socket" ]
}

# Wait until a command succeeds.
wait_for() {
  SECONDS=0
  while [ $SECONDS -lt 60 ]; do
    "$@" > /dev/null 2>&1 && return
    sleep 0.2
  done
  tail -n 20 -v "$HERE"/log/* >&2
  fail "the cluster did not come up: $*"
}

all_idle() {
  [ "$(idle_nodes)" = $NODES ]
}

start() {
  local node
  start_database
  munged --force --key-file="$HERE/munge/key" --socket="$HERE/munge/socket" --seed-file="$HERE/munge/seed" \
    --pid-file="$HERE/pid/munged" --log-file="$HERE/log/munged" 9>&-
  MYSQL_UNIX_PORT=$HERE/database/socket slurmdbd 9>&-
  wait_for timeout 5 sacctmgr --immediate add cluster throwaway
  slurmctld -i 9>&-
  for node in $(seq $NODES); do
    mkdir -p "$HERE/spool/n$node"
    slurmd -N "n$node" 9>&-
  done
  wait_for all_idle
}

# Stop a daemon by its process id, and wait for its end.
stop() {
  local id
  id=$(cat "$1" 2> /dev/null) || return 0
  is_daemon "$id" || return 0
  kill "$id" 2> /dev/null || return 0
  for _ in $(seq 50); do
    kill -0 "$id" 2> /dev/null || return 0
    sleep 0.2
  done
  kill -KILL "$id"
}

down() {
  local file
  if [ -s "$HERE/pid/slurmctld" ]; then
    timeout 5 scancel --user=root 2> /dev/null || true
    SECONDS=0
    while [ $SECONDS -lt 40 ] && [ -n "$(timeout 2 squeue --noheader 2> /dev/null)" ]; do sleep 0.2; done
  fi
  for file in "$HERE"/pid/slurmd.* "$HERE"/pid/{slurmctld,slurmdbd,mariadbd,munged}; do stop "$file"; done
  if [ "$(readlink "$LINK")" = "$SLURM_CONF" ]; then rm "$LINK"; fi
  if [ -e "$SLURM_CONF" ]; then rm -rf "$HERE"; fi
}

up() {
  check
  install
  mkdir "$HERE"
  trap down EXIT
  if [ "${1:-}" = held ]; then
    exec 9> "$HERE/held"
    flock 9
  fi
  configure
  start
}

case "${1:-}" in
  install)
    install
    ;;
  up)
    up
    trap - EXIT
    echo "up: export PLDREPRO_CLUSTER=$HERE SLURM_CONF=$SLURM_CONF"
    ;;
  run)
    shift
    trap 'exit 130' INT TERM HUP
    up held
    # A group of its own, waited for in the background: bash answers a signal at once only while it waits.
    set -m
    "$@" < /dev/null &
    command=$!
    set +m
    trap 'kill -TERM -- -$command; wait $command || true; exit 130' INT TERM HUP
    wait $command
    ;;
  clear)
    clear_abandoned
    ;;
  status)
    sinfo
    squeue --states=all
    ;;
  down)
    down
    ;;
  *)
    sed -n '2,18s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
