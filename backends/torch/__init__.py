"""PyTorch, on the CPU or a CUDA GPU."""
