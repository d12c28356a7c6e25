"""What a command says while it works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.text import Text


class Progress:
    """Reports steps as they start and end, each with its time."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._depth = 0

    def say(self, text: str) -> None:
        """One line of information. What comes from the cloud is printed as it is, never as markup."""
        self.console.print(text, markup=False)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One step. On a terminal a spinner says what is being waited for; the finished line stands afterwards."""
        step = Step(title)
        begin = time.monotonic()
        live = self.console.is_terminal and self._depth == 0
        if not live and self._depth == 0:
            self.say(f"  …   {title}")
        self._depth += 1
        try:
            if live:
                with self.console.status(Text(title)) as status:
                    step.on_change = lambda text: status.update(Text(f"{title}: {text}"))
                    yield step
            else:
                yield step
        except BaseException:
            self.say(f"FAIL  {title} ({time.monotonic() - begin:.1f} s)")
            raise
        finally:
            self._depth -= 1
        note = f": {step.note}" if step.note else ""
        self.say(f"  ok  {title}{note} ({time.monotonic() - begin:.1f} s)")


class Step:
    """A step under way."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""
        self.on_change: Callable[[str], None] = _ignore

    def waiting_for(self, text: str) -> None:
        """Say what is being waited for; shown on a terminal only."""
        self.on_change(text)


def _ignore(_text: str) -> None:
    """Off a terminal, what is being waited for is not printed each second."""
