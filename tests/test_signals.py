"""Signals: held while a step or a save runs, passed on once, and put back."""

import signal

import pytest

from minidiff.training.signals import SIGNALS, SignalGuard, first_signal_only


def test_which_signals_are_answered():
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} == set(SIGNALS)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_a_deferred_block_acts_at_its_end(number):
    done = went_on = False
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit), SignalGuard() as guard:
        with guard.deferred():
            signal.raise_signal(number)
            done = True
        went_on = True
    assert done and not went_on


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_between_two_steps_saves_once_whatever_comes_meanwhile(number):
    before, saved = [signal.getsignal(n) for n in SIGNALS], []

    def save():
        signal.raise_signal(number)  # impatience while the file is written
        signal.raise_signal(signal.SIGINT)
        saved.append(True)

    with pytest.raises((KeyboardInterrupt, SystemExit)), SignalGuard(save) as guard:
        signal.raise_signal(number)
    assert saved == [True] and guard.stopped
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_the_block_and_later_ones_do_not_break_in(number):
    before, cleaned = [signal.getsignal(n) for n in SIGNALS], False
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit), first_signal_only():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned = True
    assert cleaned and [signal.getsignal(n) for n in SIGNALS] == before


def test_signals_that_are_ignored_on_purpose_stay_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        for context in SignalGuard(), first_signal_only():
            with context:
                signal.raise_signal(signal.SIGHUP)
                assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
