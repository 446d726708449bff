"""Benchmarks: training throughput beside the matrix products alone and beside other libraries."""
