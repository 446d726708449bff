"""Helpers that know nothing of arrays: names, schemas, processes and limits of the machine."""
