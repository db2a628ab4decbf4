#!/usr/bin/env bash
# A Slurm of one node, on this machine and for this user alone, all of it in one folder:
#   tests/slurm_node.sh start FOLDER   # then SLURM_CONF=FOLDER/slurm.conf sbatch ...
#   tests/slurm_node.sh stop FOLDER
# Needs munge, slurmctld and slurmd (Debian: slurm-wlm); touches neither /etc nor another Slurm.
set -euo pipefail
PATH=$PATH:/usr/sbin
here=$(realpath -m "$2") user=$(id -un) node=$(hostname -s)
export SLURM_CONF=$here/slurm.conf

stop() {
  for name in slurmd slurmctld munged; do
    pid=$(cat "$here/$name.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  done
}

free_ports() {
  python3 -c 'import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in taken))'
}

start() {
  mkdir -p "$here"/{munge,state,spool}
  chmod 755 "$here/munge"
  head -c 128 /dev/urandom >"$here/munge.key"
  chmod 600 "$here/munge.key"
  read -r control daemon < <(free_ports)
  cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$daemon
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES State=UP
CONF
  munged --force --socket="$here/munge/socket" --key-file="$here/munge.key" \
    --pid-file="$here/munged.pid" --log-file="$here/munged.log" --seed-file="$here/munged.seed"
  slurmctld -c
  slurmd -N "$node"
  for _ in $(seq 100); do
    [ "$(sinfo -h -o %t 2>/dev/null)" = idle ] && return
    sleep 0.2
  done
  echo "the node did not come up; the logs in $here say why" >&2
  stop
  return 1
}

case $1 in start | stop) "$1" ;; *) echo "start or stop?" >&2; exit 2 ;; esac
