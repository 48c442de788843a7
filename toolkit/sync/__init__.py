"""BSP, ASP and SSP in a running job: a sharded parameter server on the ranks, and the switch between protocols.

layout.py cuts the model into shards, server.py keeps one, client.py is a worker's side of it, tickets.py deals out the
work, phase.py runs one asynchronous phase. BSP itself is the trainer's own step
over Horovod.
"""
