"""What a user would take instead of nnx: one short file each, written as its own users write it."""
