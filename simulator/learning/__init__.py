"""Learning in simulated time: real gradients of a real network, in the order and with the staleness of the event model.

An optional extra of the simulator, and its one part that needs torch (as for training, but neither Horovod nor MPI):
all virtual workers live in this process and share the model. Nothing else of the simulator imports it; a test keeps
both.
"""
