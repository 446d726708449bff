"""The intermediate representation: operations, graphs, and the tracer that makes them."""
