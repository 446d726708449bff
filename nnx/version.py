"""The version, in one place: pyproject.toml and the model files read it here."""

__version__ = "0.1.0"
