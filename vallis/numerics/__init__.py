"""Mathematics on tensors: operators, eigenpairs, traces, directions, slices. It knows nothing of learning."""
