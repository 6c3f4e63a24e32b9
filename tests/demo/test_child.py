"""Child processes: what they say, how they end, and how they are ended."""

from __future__ import annotations

import signal
import sys

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from srsproxy.demo import child
from srsproxy.demo.child import Child, NoSuchProgram, find_program
from tests.asynchronous import in_reactor, until

PATIENCE = 20.0


def python(program: str, environment: dict[str, str] | None = None) -> Child:
    return Child.start(reactor, [sys.executable, "-c", program], environment)


def ended(process: Child) -> Deferred[int]:
    return process.ended().addTimeout(PATIENCE, reactor)


@in_reactor
async def test_output_errors_and_status_of_a_program_are_there_when_it_has_ended() -> None:
    process = python("import sys; print('out'); sys.stderr.write('err'); sys.exit(3)")
    assert await ended(process) == 3
    assert (process.output, process.errors, process.status) == ("out\n", "err", 3)
    assert await ended(process) == 3


@in_reactor
async def test_a_program_that_succeeds_has_status_0() -> None:
    assert await ended(python("")) == 0


@in_reactor
async def test_a_program_ended_by_a_signal_has_its_negative_number() -> None:
    assert await ended(python("import os; os.kill(os.getpid(), 9)")) == -signal.SIGKILL


@in_reactor
async def test_the_environment_is_the_one_that_is_given() -> None:
    process = python("import os; print(os.environ.get('NAME'), os.environ.get('HOME'))", {"NAME": "value"})
    await ended(process)
    assert process.output == "value None\n"


@in_reactor
async def test_only_the_last_output_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MAX_OUTPUT", 100)
    process = python("print('x' * 100_000); print('end')")
    await ended(process)
    assert process.output == "x" * 95 + "\nend\n"


@in_reactor
async def test_stopping_waits_for_the_end() -> None:
    process = python("import time; print('running', flush=True); time.sleep(1000)")
    await process.stop()
    assert process.status == -signal.SIGTERM
    await process.stop()


@in_reactor
async def test_a_program_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_TIMEOUT", 0.1)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    process = python(f"{deaf}; print('deaf', flush=True); signal.pause()")
    await until(reactor, lambda: process.output, "the program is deaf to SIGTERM")
    await process.stop()
    assert process.status == -signal.SIGKILL


@in_reactor
async def test_whoever_waits_may_give_up() -> None:
    process = python("")
    waiting = process.ended()
    given_up = waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    await given_up
    assert await ended(process) == 0


def test_a_program_that_is_not_installed_is_an_error_that_names_it() -> None:
    with pytest.raises(NoSuchProgram, match="no-such-program is not installed"):
        find_program("no-such-program")
    with pytest.raises(NoSuchProgram):
        Child.start(reactor, ["no-such-program"])
