"""What the files in a run's folder are called."""

MODEL, HISTORY = "model.safetensors", "history.jsonl"
