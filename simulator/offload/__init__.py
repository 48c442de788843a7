"""Offloading: schedules of training methods, executed on the tiers device <-> host <-> disk of one machine.

transformer.py: what a model weighs. machine.py: what a machine has. calibration.py: what the methods' releases cost,
from logged 32-layer runs. memory.py: what a method keeps where. tiers.py: links, streams, CPU and memory in simulated
time. in_memory.py, l2l.py, zero.py, stronghold.py: a schedule each. case.py: one method, model and machine; methods.py:
the table of methods. Source of the methods' rules: Sun et al., STRONGHOLD, SC 2022, and its released artifact.
"""
