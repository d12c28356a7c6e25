"""Steps: one asserted action each, which knows how to be planned, recognised, done and proved."""

from __future__ import annotations

import abc
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ovnshift.errors import OvnshiftError
from ovnshift.journal import Entry, Journal, JournalError, State
from ovnshift.report.result import Finding, NotReady

NOT_BEGUN = "not begun, since another has failed"


class Gone(OvnshiftError):
    """What a step is about was deleted meanwhile, by whoever owns it; there is nothing to do to it any more."""


class Step(abc.ABC):
    """One action.

    Attributes:
        chapter: the chapter it belongs to.
        key: names it within the journal, the same each time; has the id of the object concerned, not its name.
        title: for people.
        way_back: what ``--rollback`` does about it, or why there is nothing to do or nothing that can be done; shown in plans.
            Empty for steps of the way back.
        may_be_gone: whether it is about one object that its owner may delete meanwhile.
        settled_by: beginnings of ids of later steps. Once one of these has begun, what this step did is not looked at again:
            the later one has changed the cloud so that it can't be seen any more, or is undone on purpose. Its own id means that
            it is done once and for all.
    """

    chapter: str
    way_back: ClassVar[str] = ""
    may_be_gone: ClassVar[bool] = False
    settled_by: tuple[str, ...] = ()
    key: str
    title: str

    @property
    def id(self) -> str:
        """Its name in the journal."""
        return f"{self.chapter}/{self.key}"

    @abc.abstractmethod
    def plan(self) -> list[str]:
        """What it would do, line by line: on which host, with which command, to which object or row."""

    def find(self) -> Any:
        """What is there before it, JSON-able: what the way back needs."""
        return None

    @abc.abstractmethod
    def is_done(self) -> bool:
        """Whether the cloud is as it should be after it, by looking at the cloud and not at the journal."""

    @abc.abstractmethod
    def do(self, found: Any) -> None:
        """Do it; run again after half of it was done, it does the rest.

        Args:
            found: what :meth:`find` found before its first attempt.
        """

    @abc.abstractmethod
    def prove(self) -> list[str]:
        """Prove from a second side that it is done; what proves it.

        Raises:
            NotReady: it is not.
        """


class Runner:
    """Does steps, with what is intended in the journal before it is done and what came of it after.

    Args:
        journal: of the change.
        say: shows a line to whoever looks.
        plan_only: say what would be done, and do nothing.
    """

    def __init__(self, journal: Journal, say: Callable[[str], None], *, plan_only: bool = False) -> None:
        self._journal = journal
        self._say = say
        self._plan_only = plan_only

    def run(self, step: Step) -> Entry | None:
        """Do a step unless it is done; prove it in either case.

        Returns:
            Its entry; None when it was only planned.

        Raises:
            OvnshiftError: it could not be done.
            NotReady: it was done, and could not be proved.
        """
        if self._plan_only:
            self._plan([step])
            return None
        try:
            return self._run(step)
        except Gone as gone:
            if not step.may_be_gone:
                raise
            self._say(f"{step.title}: {gone.problem}")
            self._journal.already(step.id, step.chapter, step.title, [gone.problem])
            return self._journal.entry(step.id)

    def _plan(self, steps: Sequence[Step]) -> None:
        for step in steps:
            for line in step.plan():
                self._say(line)
        ways = [step.way_back for step in steps if step.way_back and not step.chapter.startswith("back ")]
        for way in dict.fromkeys(ways):
            self._say(f"way back: {way}")

    def _run(self, step: Step) -> Entry | None:
        before = self._journal.entry(step.id)
        if before is not None and before.state in {State.DONE, State.ALREADY} and self._is_settled(step):
            self._say(f"{step.title}: done at {before.ended_at}")
            return before
        if step.is_done():
            proof = step.prove()
            if before is None or before.state is State.UNDONE:
                self._journal.already(step.id, step.chapter, step.title, proof)
                self._say(f"{step.title}: was so already")
            elif before.state is not State.ALREADY:
                self._journal.done(step.id, proof)
            return self._journal.entry(step.id)
        entry = self._journal.intend(step.id, step.chapter, step.title, step.find())
        try:
            step.do(entry.found)
            proof = step.prove()
        except (OvnshiftError, NotReady) as error:
            self._journal.failed(step.id, str(error))
            raise
        self._journal.done(step.id, proof)
        for line in proof:
            self._say(line)
        return self._journal.entry(step.id)

    def _is_settled(self, step: Step) -> bool:
        return any(self._journal.begun(prefix) for prefix in step.settled_by)

    def run_all(
        self, steps: Sequence[Step], *, what: str, parallel: int = 1, stop_at_first: bool = False
    ) -> list[Entry]:
        """Do steps that don't depend on each other, several at once; one that fails does not keep the others from being done.

        Args:
            steps: in the order in which they are begun.
            what: what they are done to, for the message ("of the instances").
            parallel: how many at once.
            stop_at_first: begin no other when one has failed; those that were begun beside it come to their end.

        Returns:
            Their entries; none when they were only planned.

        Raises:
            NotReady: some failed; all of them are named.
            JournalError: nothing more can be written down, so that nothing more is done.
        """
        if self._plan_only:
            self._plan(steps)
            return []
        stopped = threading.Event()

        def attempt(step: Step) -> Entry | str | None:
            if stop_at_first and stopped.is_set():
                return NOT_BEGUN
            result = self._attempt(step)
            if isinstance(result, str):
                stopped.set()
            return result

        if parallel == 1 or len(steps) < 2:
            results = [attempt(step) for step in steps]
        else:
            with concurrent.futures.ThreadPoolExecutor(max_workers=parallel) as pool:
                results = list(pool.map(attempt, steps))
        failed = [
            f"{step.title}: {error}" for step, error in zip(steps, results, strict=True) if isinstance(error, str)
        ]
        if failed:
            kept = sum(result == NOT_BEGUN for result in results)
            problem = f"{len(failed) - kept} of {len(steps)} {what} failed" + (
                f", {kept} were not begun" if kept else ""
            )
            raise NotReady(Finding(problem, tuple(failed), "mend the cause, and run this again"))
        return [entry for entry in results if isinstance(entry, Entry)]

    def _attempt(self, step: Step) -> Entry | str | None:
        try:
            return self.run(step)
        except JournalError:
            raise
        except NotReady as error:
            return str(error.finding)
        except OvnshiftError as error:
            return str(error)
