"""The table of all commands, and the group that imports a command only when it is called, so that `--help` is quick."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NamedTuple

import rich_click as click

from ftwallet import __version__
from ftwallet.cli.terminal import complain
from ftwallet.errors import ClientError, DiskFault, ExitCode, Refused


class Entry(NamedTuple):
    """Where a command is, and what `--help` says of it."""

    place: str
    summary: str


COMMANDS = {
    "up": Entry("ftwallet.cli.up:up", "Start both nodes and keep them running."),
    "status": Entry("ftwallet.cli.status:status", "Show roles, pids, ports, lsns, digests, restarts, CPU and memory."),
    "kill": Entry("ftwallet.cli.kill:kill", "Kill a node, at once or at a stage, and tell what recovery did."),
    "whatif": Entry("ftwallet.cli.whatif:whatif", "Say what a kill would do now, without doing it."),
    "pause": Entry("ftwallet.cli.lifecycle:pause", "Stop a node where it is (SIGSTOP)."),
    "resume": Entry("ftwallet.cli.lifecycle:resume", "Let a paused node go on (SIGCONT)."),
    "restart": Entry("ftwallet.cli.lifecycle:restart", "Stop a node in order and start it again."),
    "switchover": Entry("ftwallet.cli.lifecycle:switchover", "Have the backup take the primary's place, in order."),
    "stop": Entry("ftwallet.cli.lifecycle:stop", "Stop everything in order."),
    "logs": Entry("ftwallet.cli.logs:logs", "Show what the processes said."),
    "events": Entry("ftwallet.cli.events:events", "Show what happened to the cluster, and why."),
    "verify": Entry("ftwallet.cli.verify:verify", "Check both nodes' logs, hash chains, balances and digests."),
    "quarantine": Entry(
        "ftwallet.cli.quarantine:quarantine", "Show what was cut from the logs or set aside, and what became of it."
    ),
    "export": Entry("ftwallet.cli.files:export", "Write wallets and transactions as readable JSON files."),
    "import": Entry("ftwallet.cli.files:import_", "Take such files into an empty ledger."),
    "node": Entry("ftwallet.cli.node:node", "Run one node by hand, without a supervisor."),
    "bench": Entry("ftwallet.lab.bench:bench_command", "Measure throughput and latency on a temporary cluster."),
}


class DeferredCommand(click.RichCommand):
    """Stands for a command in `--help`; becomes the real one when it is called."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name=name, short_help=entry.summary, help=entry.summary)
        self._place = entry.place

    def load(self) -> click.Command:
        """Import and return the real command."""
        module, _, attribute = self._place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Parse the arguments as the real command does."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


class Commands(click.RichGroup):
    """`ftwallet-run`: turns each refusal into one line on stderr and its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the stand-in of a command."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else DeferredCommand(cmd_name, entry)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it refuses becomes a sentence."""
        try:
            return super().invoke(ctx)
        except Refused as refusal:
            complain(str(refusal))
            ctx.exit(_exit_code(refusal, ctx.invoked_subcommand))
        except (ClientError, DiskFault) as fault:
            complain(str(fault))
            ctx.exit(ExitCode.FAILED)
        except click.UsageError as error:
            if sys.stderr.isatty():
                raise  # a terminal gets the panel
            path = error.ctx.command_path if error.ctx else "ftwallet-run"
            complain(f"{' '.join(error.format_message().split()).rstrip('.')}; see `{path} --help`")
            ctx.exit(ExitCode.USAGE)
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:  # whoever read our output has had enough; Python must not complain at its exit either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(ExitCode.FAILED)
        except PermissionError as error:  # somebody else's data directory
            complain(f"{error.filename}: {error.strerror}; run this as the user to whom the data directory belongs")
            ctx.exit(ExitCode.FAILED)


def _exit_code(refusal: Refused, command: str | None) -> ExitCode:
    """Return the code to exit with; those of node processes are for whoever started one."""
    is_nodes = refusal.code >= ExitCode.DISK_FAULT
    return ExitCode.FAILED if is_nodes and command != "node" else refusal.code


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ftwallet-run")
def ftwallet_run() -> None:
    """A wallet ledger that loses no money when anything dies, and lets you kill anything to see it.

    `up` starts it, `kill` breaks it, `verify` proves that nothing was lost.
    """
