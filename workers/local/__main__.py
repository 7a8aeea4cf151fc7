"""`python -m workers.local`: the stack in a process of its own, until SIGINT, SIGTERM or its parent's end.

Prints the environment that workers need, then serves.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
from collections.abc import Mapping, Sequence

from workers.local.stack import LocalStack
from workers.local.tether import die_with

ENDINGS = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    if options.tied:
        die_with(parent, signal.SIGTERM)
    with LocalStack(dialect=options.dialect, key_kind=options.key_kind, port=options.port) as stack:
        print(_environment(stack.env, options.format), flush=True)
        signal.sigwait(ENDINGS)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.local", description=__doc__)
    parser.add_argument("--format", choices=("export", "json"), default="export", help="how the environment is printed")
    parser.add_argument("--dialect", choices=("paths", "objects"), default="paths", help="which callback is understood")
    parser.add_argument("--key-kind", choices=("legacy", "secret"), default="legacy", help="which service key is made")
    parser.add_argument("--port", type=int, default=0, help="where Supabase is served; a free port by default")
    parser.add_argument("--detached", dest="tied", action="store_false", help="outlive the process that started it")
    return parser.parse_args(arguments)


def _environment(variables: Mapping[str, str], form: str) -> str:
    if form == "json":
        return json.dumps(variables)
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


if __name__ == "__main__":
    main()
