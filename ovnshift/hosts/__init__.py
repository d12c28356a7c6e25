"""What a host runs, and how to reach it."""

from ovnshift.hosts.connection import (
    CommandFailed,
    CommandTimedOut,
    Completed,
    Connection,
    HostError,
    HostKeyChanged,
    LoginRefused,
    SudoRefused,
    Unreachable,
)
from ovnshift.hosts.fleet import Fleet

__all__ = [
    "CommandFailed",
    "CommandTimedOut",
    "Completed",
    "Connection",
    "Fleet",
    "HostError",
    "HostKeyChanged",
    "LoginRefused",
    "SudoRefused",
    "Unreachable",
]
