"""Tools around saved gradients: capture them from a real run, fit their distribution, time compressors on them."""
