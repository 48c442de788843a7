"""The model world: the same experiment file on clusters you don't have. Imports no torch, horovod or mpi4py."""
