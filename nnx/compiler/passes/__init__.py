"""What is worked out about a graph, one question a file."""
