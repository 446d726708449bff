"""The processes of a run, by MPI."""
