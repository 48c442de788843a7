"""The speed goals of kernels, compressors and optimizers, measured as ratios inside one run."""
