"""Weight tensors and distributions: what quantization and pruning lose before any activation is seen."""
