"""What the backends share that run a graph as a list of library calls."""
