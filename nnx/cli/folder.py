"""The names of what a run leaves in its folder."""

MODEL, HISTORY, HELD_OUT = "model.safetensors", "history.jsonl", "held_out.npz"
