"""An emulated cluster on one machine: hosts are network namespaces, their links are shaped, MPI talks TCP between them.

Needs root, iproute2 and the kernel's token bucket filter; added latency needs its netem, too. What runs on it is the
real trainer under the real mpirun; only the wires are made of software. `run_scripts/testbed.sh` is the front door.
"""
