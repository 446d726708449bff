"""Where a URI of MLflow leads: a folder, a server or a database; and why a server cannot be reached."""

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from nnx.errors import InputError, as_path, shown
from nnx.support.deadline import within

SERVERS = "http", "https"
DATABASES = "sqlite", "postgresql", "mysql", "mssql"
"""MLflow's own; a driver may follow, as in mysql+pymysql."""

OTHERS = "file", "databricks"

TRIAL = 2.0
"""Seconds for the connection that finds out why a server does not answer."""


def place(uri: str | Path | None, name: str = "uri") -> tuple[Path | None, str | None]:
    """Return the folder and the URI that `uri` says, of which one is None. Errors call it by this name.

    A text with a scheme is a URI: letters, at least two, before a colon. So is "databricks". All else is a folder.

    Raises
    ------
    InputError
        When MLflow has no such scheme, or the address of a server or a database is incomplete.

    Examples
    --------
    >>> place("http://127.0.0.1:5000")
    (None, 'http://127.0.0.1:5000')
    """
    from importlib.metadata import entry_points  # slow to import

    scheme = re.match(r"([A-Za-z][\w.-]+)(?:\+\w+)?:", uri) if isinstance(uri, str) else None
    if uri is None or uri == "databricks":
        return None, uri
    if scheme is None:
        return as_path(name, uri).absolute(), None
    uri, kind = str(uri), scheme[1].lower()
    known = {*SERVERS, *DATABASES, *OTHERS}
    if kind not in known | {one.name for one in entry_points(group="mlflow.tracking_store")}:
        raise InputError(
            f"{name}={shown(uri)} begins with {scheme[1]!r}, which MLflow does not know; give a server, such as "
            "'http://127.0.0.1:5000', a folder, or the URI of a database, such as 'postgresql://HOST/NAME'. A folder "
            "with a colon in its name must be a pathlib.Path, or an absolute path, such as '/path/to/a:b'"
        )
    if kind in SERVERS and not all(_address(uri)):
        raise InputError(f"{name}={shown(uri)} names no server; expected '{kind}://HOST:PORT'")
    if kind in DATABASES and "://" not in uri:
        raise InputError(
            f"{name}={shown(uri)} is no database; expected '{kind}://...', such as 'sqlite:///runs.db'"
        )
    return None, uri


def _address(uri: str) -> tuple[str, int]:
    """Return a server's host and port; "" and 0 where there is none, or none that is valid."""
    try:
        parts = urlsplit(uri)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # no number, or one above 65535
        return "", 0


def unreachable(uri: str) -> str:
    """Return why no connection to a server can be made; "" if one can, for a URI of no server, and behind a proxy."""
    from urllib.request import getproxies, proxy_bypass  # slow to import

    host, port = _address(uri)
    if not uri.startswith("http") or not host:
        return ""
    if {urlsplit(uri).scheme, "all"} & {*getproxies()} and not proxy_bypass(host):
        return ""  # MLflow does not connect to the server itself
    try:
        within(TRIAL, lambda: socket.create_connection((host, port), TRIAL).close())
    except OSError as error:
        return f"no connection to {host}:{port}: {error.strerror or error}"
    return ""
