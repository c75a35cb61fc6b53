"""The command ``gutscore-rs``.

Exit codes (sysexits.h where there is one): 0 done; 1 the work failed (driver, tasks); 2 wrong use of the command line;
65 bad configuration; 69 Redis or a provisioner is not there; 70 an error of ours; 73 state folder or file unusable;
75 not in time (workers, release): try again; 130 ended by Ctrl-C, after releasing everything.

Commands are imported when they are called: ``--help`` needs only click.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from gutscore_rs import __version__
from gutscore_rs.cli.exits import EXIT_INTERRUPTED, exit_code_of
from gutscore_rs.errors import GutscoreError

# command -> module, help; the modules hold a click command of the same name
COMMANDS = {
    "run": ("run", "Run a case from start to end: Redis, workers, driver, release, summary."),
    "up": ("services", "Start what a case needs here (embedded server, provisioner) and leave it running."),
    "down": ("services", "Release everything of a case and stop what `up` started."),
    "provisioner": ("services", "Run a provisioner for a case on this host, in the foreground."),
    "request": ("resource_sets", "Request the resource sets of a running case."),
    "release": ("resource_sets", "Release resource sets and see that their workers are gone."),
    "reconcile": ("resource_sets", "Have the provisioners look at a case's sets now."),
    "forget": ("resource_sets", "Remove an ended case, or one of its sets, from Redis."),
    "script": ("resource_sets", "Print the exact Slurm batch script of a case."),
    "status": ("reading", "Show resource sets, provisioners and queues of a case."),
    "count": ("reading", "Count the living workers of a case."),
    "workers": ("reading", "List the living workers of a case."),
    "events": ("reading", "Show what happened: changes of state and deaths, with the why."),
    "logs": ("reading", "Show the logs of a case's processes on this host."),
    "doctor": ("doctor", "Say what is missing here and how to get it."),
}


class _Group(click.Group):
    """Finds commands by the table above and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gutscore_rs.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - our own table
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="CASE is a TOML file or the name of a running case. Each command has --help.",
)
@click.version_option(__version__, prog_name="gutscore-rs")
def cli() -> None:
    """N workers for T minutes on a laptop or on Slurm: request, count, feed, release."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the command; ends the process with a documented exit code."""
    try:
        cli.main(arguments, prog_name="gutscore-rs", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Ended by Ctrl-C.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: no error of anybody.
        sys.stderr.close()
        sys.exit(0)
    except GutscoreError as error:
        click.echo(f"gutscore-rs: {error}", err=True)
        sys.exit(exit_code_of(error))
    sys.exit(0)
