"""Judges answers: which a service may give whatever it is sent, and which are faults of its own."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

HONEST: Final = frozenset({"not_ready", "out_of_resources", "storage_full"})
"""Codes of a server's errors that name a lack which is real, and no fault."""


@dataclass(frozen=True)
class Answer:
    """An answer as it is counted."""

    status: int | None
    """None where there was none."""
    label: str
    """The status and the problem's code, as in `422 undecodable_media`; without an answer, why."""
    fault: str = ""
    """Why a service must not answer like this; empty where it may."""


@dataclass
class Part:
    """One part of the attack: what was answered, and what the service did meanwhile."""

    name: str
    answers: dict[str, int] = field(default_factory=dict)
    """Times of each answer, by its label."""
    retried: int = 0
    """Requests that were sent again, as a 429 told."""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    health_s: float = 0.0
    """Slowest answer of /healthz, in seconds."""
    begin_mb: float = 0.0
    """Resident memory of the service and its children before, in MB."""
    peak_mb: float = 0.0
    """The largest, in MB."""

    def count(self, answer: Answer, sent: str) -> None:
        """Count the answer to what `sent` names."""
        self.add(answer.label)
        if answer.fault:
            self.faults.append(f"{sent}: {answer.label}, {answer.fault}")

    def add(self, label: str) -> None:
        """Count an outcome."""
        self.answers[label] = self.answers.get(label, 0) + 1

    def starting_with(self, digits: str) -> int:
        """Return the number of answers whose status begins with these digits."""
        return sum(count for label, count in self.answers.items() if label.startswith(digits))


def judged(status: int, media_type: str, body: bytes) -> Answer:
    """Return what an answer of the service to an upload is."""
    try:
        if media_type.startswith("application/x-ndjson"):
            return _judged_stream(status, body)
        document = strict_json(body)
    except ValueError:
        return Answer(status, str(status), "its body is no JSON")
    if not isinstance(document, dict):
        return Answer(status, str(status), "its body is no object")
    if status == 200:
        whole = "faces" in document or "tracks" in document
        return Answer(status, "200", "" if whole else "it holds no result")
    code = str(document.get("code", ""))
    label = f"{status} {code}"
    if not media_type.startswith("application/problem+json") or document.get("status") != status or not code:
        return Answer(status, label, "it is no problem document")
    return Answer(status, label, fault_of(status, code))


def _judged_stream(status: int, body: bytes) -> Answer:
    last = strict_json(body.rstrip(b"\n").rpartition(b"\n")[2])
    kind = last.get("type") if isinstance(last, dict) else None
    if kind == "summary":
        return Answer(status, "200")
    if kind != "error":
        return Answer(status, "200", "its stream has no end")
    code = str(last["code"])
    return Answer(status, f"200, then {code}", fault_of(int(last["status"]), code))


def fault_of(status: int, code: str) -> str:
    """Return why a service must not give an answer of a status and a problem's code; empty where it may."""
    return "a server's error that names no lack" if status >= 500 and code not in HONEST else ""


def strict_json(text: bytes) -> Any:
    """Return what a JSON text holds. Raises ValueError for any other, and for numbers that JSON does not have."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)
