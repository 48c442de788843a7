#!/usr/bin/env bash
# How mpirun reaches a host of the emulated cluster: AGENT ADDRESS COMMAND…, as it would call ssh.
# The host's namespaces are found by its address; the process sees the host's own name, so that MPI and Horovod take
# it for another machine.
set -euo pipefail

address=$1
shift
host=$SANDTABLE_TESTBED-host$((${address##*.} - 1))
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"
