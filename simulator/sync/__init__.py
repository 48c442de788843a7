"""Who waits for whom: BSP, ASP and SSP phases, and the switches between them, in simulated time.

cluster.py says what a cluster has to tell (`Cluster`), asynchronous.py runs ASP and SSP on one, job.py a whole run of
phases with its online policy and checkpoints. planned.py is the cluster of an experiment file; a study brings its own.
"""
