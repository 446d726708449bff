"""The adapters: one small file an array library. Found by entry points, imported only when asked for."""
