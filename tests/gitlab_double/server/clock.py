"""Moments as GitLab writes them: UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta


def now() -> str:
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def seconds_since(text: str) -> float:
    return (datetime.now(UTC) - moment(text)).total_seconds()


def seconds_between(start: str | None, end: str | None) -> float | None:
    """None where the beginning is not known; up to now where the end is not."""
    if not start:
        return None
    return (moment(end or now()) - moment(start)).total_seconds()


def today() -> date:
    return datetime.now(UTC).date()


def in_seconds(seconds: float) -> str:
    return stamp(datetime.now(UTC) + timedelta(seconds=seconds))
