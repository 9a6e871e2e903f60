"""The command line: finds the command, takes the options of parts out of its arguments, turns errors into sentences."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any, NoReturn

from vallis import __version__
from vallis.core import catalog
from vallis.core.errors import UsageError, VallisError

# In the order in which somebody meets them.
COMMANDS = {
    "examine": "measure the ground a network stands on, and write a report",
    "list": "what there is: problems, models, training, measurements, theory, studies",
    "show": "one part: what it is, its settings, its sources",
    "measure": "ask one question of a network",
    "run": "train and measure what a JSON file asks for",
    "theory": "compute a curve or a bound that needs no network",
    "study": "rerun the experiments of a paper and test its claims",
    "report": "make a report again, or export its figures",
    "new": "write the skeleton of a part and of its test",
    "doctor": "look at this machine, and say what to do",
}
DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130
_IMPORTER, _IMPORT_SECONDS, _AGAIN_SECONDS = "<frozen importlib._bootstrap>", 5.0, 0.05

_HELP = """\
usage: vallis COMMAND [ARGUMENTS]

Looks at a trained network and at the ground it stands on: how sharp, how wide, how sure.

commands:
{commands}

examples:
  vallis examine                              train a small net on digits and look at it
  vallis examine digits --model convnet       another architecture
  vallis examine mine.py:network --out out    your own network
  vallis COMMAND --help                       what a command takes, with examples

exit codes: 0 done, 1 something failed, 2 the command line cannot be used, 130 stopped by Ctrl-C or SIGTERM"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _stopped_alike():
            return _run(words)
    except KeyboardInterrupt as error:
        _complain(str(error) or "stopped: what was finished is kept; run the same command again to go on")
        return STOPPED
    except UsageError as error:
        _complain(str(error))
        return USAGE
    except VallisError as error:
        _complain(str(error))
        return FAILED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


@contextmanager
def _stopped_alike() -> Iterator[None]:
    """Within it SIGTERM, which `timeout` and queues of jobs send, does what Ctrl-C does: what is finished is kept."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be set
        yield
        return
    words, stop = [signal.SIGTERM], _stop()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise somebody wants to hear no Ctrl-C
        words.append(signal.SIGINT)
    before = {word: signal.signal(word, stop) for word in words}
    try:
        yield
    finally:
        for word, handler in before.items():
            signal.signal(word, handler)


def _stop() -> Callable[[int, FrameType | None], None]:
    """Raises `KeyboardInterrupt`, though not amid an import before it has had some seconds to end.

    numpy cannot be imported twice, so torch, which goes on without it, would end in a traceback of something else; and
    what is raised in the machinery of imports itself is lost.
    """
    patience: list[float] = []

    def stop(word: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if _is_importing(frame) and now < (patience or [now + _IMPORT_SECONDS])[0]:
            patience[:] = patience or [now + _IMPORT_SECONDS]
            again = threading.Timer(_AGAIN_SECONDS, _send, (word,))
            again.daemon = True
            again.start()
            return
        patience.clear()
        raise KeyboardInterrupt

    return stop


def _send(word: int) -> None:
    """To the main thread, which may be waiting in a call that nothing but a signal of its own ends."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, word)
    else:
        signal.raise_signal(word)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != _IMPORTER:
        frame = frame.f_back
    return frame is not None


def _run(words: list[str]) -> int:
    if words[:1] == ["help"] and len(words) > 1:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        lines = [f"  {name:<10}{says}" for name, says in COMMANDS.items()]
        print(_HELP.format(commands="\n".join(lines)))
        return DONE if words else USAGE
    if words[0] in ("-V", "--version"):
        print(f"vallis {__version__}")
        return DONE
    if words[0] not in COMMANDS:
        raise catalog.unknown("command", words[0], COMMANDS)
    command = import_module(f"vallis.commands.{words[0]}")
    parser = _parser(words[0], command)
    from vallis.commands import options

    tree, rest = options.split(words[1:])
    if "-h" in rest or "--help" in rest:
        _help(parser, command, [word for word in rest if word not in ("-h", "--help")])
        return DONE
    args = parser.parse_args(rest)
    args.tree = tree
    options.only(tree, command.prefixes(args) if hasattr(command, "prefixes") else ())
    code: int = command.run(args)
    return code


def _parser(name: str, command: ModuleType) -> Parser:
    parser = Parser(
        prog=f"vallis {name}",
        description=command.__doc__,
        epilog=f"examples:\n{command.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser


def _help(parser: Parser, command: ModuleType, words: list[str]) -> None:
    """Prints the help; once parts are named, with their settings."""
    parts: list[tuple[str, str, str]] = []
    if words and hasattr(command, "named"):
        args: Any = parser.parse_args(words)
        parts = command.named(args)
    print(parser.format_help())
    if parts:
        from vallis.commands.show import settings

        for prefix, kind, name in parts:
            print(f"settings of {name} ({kind}):")
            print("\n".join([*settings(catalog.load(kind, name), prefix), ""]))
    elif hasattr(command, "named"):
        said = (
            "Name a part (a problem, --model, --training ...) before --help to see the options that its settings give."
        )
        print(textwrap.fill(said, 100))


def _complain(message: str) -> None:
    print(f"vallis: {message}", file=sys.stderr)
