"""The one shape of everything that can go wrong: what, where, and what to do next."""

from __future__ import annotations


class OvnshiftError(Exception):
    """Something could not be looked at or done.

    That the cloud is not as it should be is not this error: a check says that by failing. This one says that there was no way to
    tell, and a report shows it as an error instead of a failure.

    Args:
        place: where it happened: a host, a file with its line, a service's address.
        problem: what was expected and what was seen.
        next_step: what a person can do about it.
    """

    def __init__(self, place: str, problem: str, next_step: str) -> None:
        super().__init__(f"{place}: {problem}\n  next: {next_step}")
        self.place = place
        self.problem = problem
        self.next_step = next_step
