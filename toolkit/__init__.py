"""The real world of Sandtable: trainers under mpirun, their compressors, exchanges and policies."""

__version__ = "0.1.0"
