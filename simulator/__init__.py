"""The model world of Sandtable: the same experiment file on clusters you don't have. Imports no torch, horovod, mpi4py."""
