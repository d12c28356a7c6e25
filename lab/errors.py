"""What the lab says when it cannot go on."""


class LabError(Exception):
    """Something that the person at the terminal has to know: what is wrong, where, and what to do next.

    Args:
        what: what was expected and what was seen, with the host, file or command concerned.
        next_step: the thing to try next, a sentence or a command.
        detail: output of the failing program, printed below the message.
    """

    def __init__(self, what: str, next_step: str, detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.detail = detail

    def __str__(self) -> str:
        text = f"{self.what}\n  next: {self.next_step}"
        if self.detail.strip():
            text += "\n" + "\n".join(f"  | {line}" for line in self.detail.strip().splitlines()[-30:])
        return text


class NotUp(LabError):
    """A command needs the lab and there is none, or only half of one."""


class Busy(LabError):
    """Another process is changing the lab."""
