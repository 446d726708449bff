"""The network: its layers, activations, outputs, parameters and penalties."""
