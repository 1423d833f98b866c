"""Does what takes long beside the passes: asks model servers something, and keeps what came of it.

- A job is known by its pool and its key. One that runs goes on when it is asked for again; one that has ended is done
  once more then, since a plan names only what it wants done. When to try again is the plan's to decide; it sees how
  often it was tried in vain.
- Of an answer that streams, the latest line is the reply, so that a pass sees how far it is.

Rule: a job says what came, and judges nothing but whether something came: 2xx, in JSON, and no error inside.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from arbiter.core.snapshot import JobResult
from arbiter.engines.calls import LONGEST_REPLY, error_said

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from datetime import datetime

    from arbiter.controller.queue import Subject
    from arbiter.core.actions import StartJob
    from arbiter.engines.calls import Call

log = logging.getLogger(__name__)

TOLD_S = 2.0
"""Seconds between two lines of a streamed answer that concern a pass; Ollama sends hundreds."""

CONNECT_S = 5.0
"""Seconds for a connection to a server in the cluster."""

FIRST_CONNECT_S = 0.25
"""Seconds for the first try at that; each further one gets twice as long. A Service that is only just known to its node
drops what comes a moment too early, and the kernel alone would try again after a whole second."""

REFUSED_S, REFUSED_PAUSE_S = 2.0, 0.05
"""Seconds for which a refused connection is tried again, and between: a Service's address works a moment after its
endpoints are told. Nothing was sent by then, so it is still the same attempt."""

ONCE = {"connection": "close"}
"""A connection that stayed open would lead to the same pod for ever, though its Service has another one by now, and
would keep a pod from ending that waits until it is idle."""

KEPT = 256
"""Ended jobs of a pool whose results are kept; those that ended first are forgotten."""

BYTES_MADE_OF = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)
"""How Python says that bytes are no JSON."""


class JobFailedError(Exception):
    """One attempt went wrong. It never leaves this module.

    Attributes:
        status: HTTP status; 0 without an answer.
        reply: what the server said, as JSON; None when it was none.
    """

    def __init__(self, problem: str, status: int = 0, reply: Mapping[str, Any] | None = None) -> None:
        """Keep what came."""
        super().__init__(problem)
        self.status = status
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Came:
    """What a server said so far: its status and one JSON object."""

    status: int
    reply: Mapping[str, Any]


class Sending(Protocol):
    """Whatever sends a call to a server."""

    def send(self, url: str, call: Call) -> AsyncGenerator[Came, None]:
        """Give the answer; of one that streams, each line as it comes.

        Raises:
            JobFailedError: there was none, or it was an error.
        """


@dataclass(frozen=True, slots=True)
class HttpSending:
    """Sends over the network."""

    session: aiohttp.ClientSession

    async def send(self, url: str, call: Call) -> AsyncGenerator[Came, None]:
        """Give the answer; of one that streams, each line as it comes."""
        clock = asyncio.get_running_loop().time
        began, patience_s = clock(), FIRST_CONNECT_S
        while True:
            try:
                async with aclosing(self._answers(url, call, patience_s)) as answers:
                    async for came in answers:
                        yield came
                    return
            except aiohttp.ConnectionTimeoutError as error:
                if clock() - began >= CONNECT_S:
                    raise JobFailedError(f"{call.asked}: no connection within {CONNECT_S:g} s") from error
                patience_s = min(2 * patience_s, CONNECT_S)
            except TimeoutError as error:
                raise JobFailedError(f"{call.asked}: no answer within {call.deadline_s:g} s") from error
            except aiohttp.ClientConnectorCertificateError as error:
                raise JobFailedError(f"{call.asked}: {error}") from error
            except aiohttp.ClientConnectorError as error:
                if not isinstance(error.os_error, ConnectionRefusedError) or clock() - began >= REFUSED_S:
                    why = error.os_error.strerror or "it cannot be reached"
                    raise JobFailedError(f"{call.asked}: no connection to {error.host}:{error.port}: {why}") from error
            except (aiohttp.ClientError, OSError) as error:
                raise JobFailedError(f"{call.asked}: {str(error) or type(error).__name__}") from error
            await asyncio.sleep(REFUSED_PAUSE_S)

    async def _answers(self, url: str, call: Call, connect_s: float) -> AsyncGenerator[Came, None]:
        """Ask once, and give what comes."""
        kind = {"content-type": "application/json"} if call.body is not None else {}
        async with self.session.request(
            call.method,
            url.rstrip("/") + call.path,
            data=call.content or None,
            headers={**ONCE, **kind},
            timeout=_times(call, connect_s),
            allow_redirects=False,
        ) as answer:
            if call.streams and answer.status < 300:
                async for line in _lines(answer.content):
                    yield Came(answer.status, _object(line, answer.status))
            else:
                yield Came(answer.status, _object(await _whole(answer.content), answer.status))


def _times(call: Call, connect_s: float) -> aiohttp.ClientTimeout:
    """A stream may go on for ever as long as something comes."""
    if call.streams:
        return aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=call.deadline_s)
    return aiohttp.ClientTimeout(total=call.deadline_s, sock_connect=connect_s)


async def _whole(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > LONGEST_REPLY:
            raise JobFailedError(f"the answer is longer than {LONGEST_REPLY} bytes")
    return bytes(body)


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for part in content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > LONGEST_REPLY:
            raise JobFailedError(f"a line of the answer is longer than {LONGEST_REPLY} bytes")
    if rest.strip():
        yield rest


def _object(body: bytes, status: int) -> dict[str, Any]:
    """Read one JSON object, which must be no error.

    Raises:
        JobFailedError: it is none, or says that something went wrong.
    """
    try:
        found = json.loads(body) if body.strip() else {}
    except BYTES_MADE_OF as error:
        came = body[:200].decode(errors="replace")
        raise JobFailedError(f"the server answered {status}, and not in JSON: {came!r}", status) from error
    if not isinstance(found, dict):
        raise JobFailedError(f"the server answered {status}, and no JSON object", status)
    if status >= 300 or "error" in found:
        said = error_said(found) or "without a message"
        raise JobFailedError(f"the server answered {status}: {said}", status, found)
    return found


@dataclass(slots=True)
class _Job:
    """One job.

    Attributes:
        action: what is done.
        result: what has become of it.
        tried: how often in a row a plan asked for it.
        task: that does it; None when it has ended.
    """

    action: StartJob
    result: JobResult
    tried: int
    task: asyncio.Task[None] | None = None


class Jobs:
    """All jobs of all pools."""

    def __init__(self, sending: Sending, concerned: Callable[[Subject], None], now: Callable[[], datetime]) -> None:
        """Nothing runs yet.

        Args:
            sending: sends calls.
            concerned: called for the pool of which a job has something new.
            now: the time of day.
        """
        self._sending = sending
        self._concerned = concerned
        self._now = now
        self._jobs: dict[Subject, dict[str, _Job]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def results(self, subject: Subject) -> dict[str, JobResult]:
        """What has become of the jobs of a pool."""
        return {key: job.result for key, job in self._jobs.get(subject, {}).items()}

    @property
    def running(self) -> int:
        """How many run."""
        return sum(job.task is not None for jobs in self._jobs.values() for job in jobs.values())

    def start(self, subject: Subject, action: StartJob) -> None:
        """Do something, unless it is being done already."""
        before = self._jobs.get(subject, {}).get(action.key)
        same = before is not None and (before.action.url, before.action.call) == (action.url, action.call)
        if before is not None and before.task is not None:
            if same:
                return
            self.stop(subject, action.key)
        tried = before.tried if before is not None and same else 0
        problem = before.result.problem if before is not None and same else ""
        result = JobResult(action.key, running=True, ok=False, at=self._now(), problem=problem, attempts=tried)
        job = _Job(action, result, tried + 1)
        jobs = self._jobs.setdefault(subject, {})
        jobs.pop(action.key, None)  # so that the order is that of their starts
        jobs[action.key] = job
        job.task = asyncio.get_running_loop().create_task(self._run(subject, job), name=f"{subject}: {action.key}")
        self._ending.add(job.task)
        job.task.add_done_callback(self._ending.discard)

    def stop(self, subject: Subject, key: str) -> None:
        """End a job and forget what became of it."""
        jobs = self._jobs.get(subject, {})
        job = jobs.pop(key, None)
        if job is not None and job.task is not None:
            job.task.cancel()
        if not jobs:
            self._jobs.pop(subject, None)

    def forget(self, subject: Subject) -> None:
        """A pool is gone, and nobody needs its jobs any more."""
        for key in tuple(self._jobs.get(subject, {})):
            self.stop(subject, key)

    async def close(self) -> None:
        """End all jobs, and wait until they have ended."""
        for subject in tuple(self._jobs):
            self.forget(subject)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _run(self, subject: Subject, job: _Job) -> None:
        """Do it once, and keep what came."""
        key = job.action.key
        try:
            came = await self._answer(subject, job)
            done = JobResult(
                key,
                running=False,
                ok=True,
                at=self._now(),
                reply=came.reply,
                status=came.status,
                attempts=job.tried - 1,
            )
        except JobFailedError as error:
            done = self._failed(job, str(error), error.status, error.reply)
        except Exception as error:  # a mistake of ours must not leave a job running for ever
            log.exception("%s met something unforeseen", key, extra={"about": subject, "reason": "Unforeseen"})
            done = self._failed(job, repr(error))
        job.result, job.task = done, None
        if not done.ok:
            log.info("%s failed: %s", key, done.problem, extra={"about": subject, "reason": "JobFailed"})
        self._forget_oldest(subject)
        self._concerned(subject)

    def _failed(self, job: _Job, problem: str, status: int = 0, reply: Mapping[str, Any] | None = None) -> JobResult:
        key, attempts = job.action.key, job.tried
        return JobResult(
            key, running=False, ok=False, at=self._now(), reply=reply, status=status, problem=problem, attempts=attempts
        )

    async def _answer(self, subject: Subject, job: _Job) -> Came:
        """Send it; of an answer that streams, remember each line and tell some."""
        clock = asyncio.get_running_loop().time
        told_at = clock()
        came = None
        async with aclosing(self._sending.send(job.action.url, job.action.call)) as answers:
            async for came in answers:
                if job.action.call.streams:
                    job.result = replace(job.result, reply=came.reply, status=came.status)
                    if clock() - told_at >= TOLD_S:
                        told_at = clock()
                        self._concerned(subject)
        if came is None:
            raise JobFailedError(f"{job.action.call.asked}: the answer was empty")
        return came

    def _forget_oldest(self, subject: Subject) -> None:
        jobs = self._jobs.get(subject, {})
        ended = [key for key, job in jobs.items() if job.task is None]
        for key in ended[:-KEPT]:
            del jobs[key]
