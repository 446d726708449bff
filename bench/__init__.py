"""The benchmarks: training throughput across batch sizes, beside the matrix products alone."""
