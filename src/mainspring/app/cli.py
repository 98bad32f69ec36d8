"""The command line: words, options, exit codes. What a command does is in `app/commands.py` and
`app/models.py`, loaded when it runs."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import sys
from gc import freeze
from typing import Any

import click

from mainspring import __version__
from mainspring.app import options
from mainspring.core.errors import MainspringError
from mainspring.core.wording import one_line

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Verbs(click.Group):
    """Commands in the order of the work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Verbs, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="mainspring")
@click.option("--home", metavar="FOLDER", help="The state's folder (default: .mainspring here or above).")
@options.env
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(context: click.Context, home: str | None, debug: bool) -> None:
    """Train, gate, release, watch and renew models, from one Python file.

    \b
    mainspring init data.csv --target y     writes loop.py
    mainspring up loop.py                   trains, serves, watches, retrains
    """
    context.obj = {"home": home, "debug": debug}


def _call(verb: str, /, **arguments: Any) -> None:
    """Do *verb*, a function of `app/commands.py`, or "FILE:function" for another file of `app/`."""
    context = click.get_current_context()
    file, _, function = verb.rpartition(":")
    command = getattr(importlib.import_module(f"mainspring.app.{file or 'commands'}"), function)
    try:
        code = command(home=context.find_root().obj["home"], **arguments)
    except Exception as error:
        if arguments.get("as_json") and not isinstance(error, BrokenPipeError):
            failed = {"schema": "mainspring/error@1", "status": "failed", "error": one_line(error)}
            click.echo(json.dumps(failed, ensure_ascii=False))
        raise
    context.exit(code or 0)


def _answer(verb: str, /, **arguments: Any) -> None:
    """From FILE's manifest where that holds, without loading FILE and what the command itself needs."""
    context = click.get_current_context()
    found = importlib.import_module("mainspring.app.manifest")
    code = found.answer(verb, home=context.find_root().obj["home"], **arguments)
    _call(verb, **arguments) if code is None else context.exit(code)


@cli.command()
@click.argument("data")
@click.option("--target", required=True, metavar="COLUMN", help="The column to predict.")
@click.option("--output", "-o", default="loop.py", show_default=True, metavar="FILE")
@click.option("--overwrite", is_flag=True, help="Replace FILE when it is there.")
def init(data: str, target: str, output: str, overwrite: bool) -> None:
    """Write a Loop file for the table DATA (CSV or Parquet)."""
    _call("init", data=data, target=target, output=output, overwrite=overwrite)


@cli.command()
@click.argument("file")
@options.selection
@options.env
@click.option("--markdown", is_flag=True, help="Print a table for a review comment.")
@click.option("--check", is_flag=True, help="Exit code 4 when something would run.")
@options.as_json
def plan(**arguments: Any) -> None:
    """Show what would run, and why, and how long that took before. Nothing is run."""
    if arguments["markdown"] and arguments["as_json"]:
        raise click.UsageError("--markdown can't be combined with --json; choose one")
    _answer("plan", **arguments)


@cli.command()
@click.argument("file")
@options.selection
@options.env
@click.option(
    "--executor", metavar="WHERE", help="Where steps run: local (default), process[:N], ray[://HOST:PORT], here."
)
@click.option("--fast", is_flag=True, help="Finished steps survive a crash, but not a loss of power.")
@click.option("--explain", is_flag=True, help="Say first what will run, and why.")
@click.option("--full-traceback", is_flag=True, help="Show the traceback of a step that fails.")
@options.as_json
def run(**arguments: Any) -> None:
    """One turn, from ingest to release. Exit code 3: the gate held the candidate back."""
    arguments["full_traceback"] |= click.get_current_context().find_root().obj["debug"]
    _answer("run", **arguments)


@cli.command()
@click.argument("run", required=False)
@click.option("--executor", metavar="WHERE", help="Where steps run, as for run.")
@options.as_json
def resume(run: str | None, **arguments: Any) -> None:
    """Go on with the newest interrupted run, or with RUN: finished steps aren't repeated."""
    home = click.get_current_context().find_root().obj["home"]
    asked = importlib.import_module("mainspring.app.resume").asked(home, run)
    _call("run", **asked, fast=False, explain=False, full_traceback=False, **arguments)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@options.endpoint
@click.option("--control-port", type=int, default=None, help="Port of the API (default 8701).")
@click.option("--clock", type=click.Choice(["system", "manual"]), default="system", show_default=True)
@click.option("--now", default=None, metavar="TIME", help="Where a manual clock starts (ISO 8601).")
@click.option("--once", is_flag=True, help="One turn and one monitoring report, then stop.")
@options.env
def up(**arguments: Any) -> None:
    """The loops as a service: serve, watch, retrain. Ctrl-C drains."""
    _call("up", **arguments)


@cli.command()
@click.argument("folder", required=False, metavar="[FOLDER]")
@options.endpoint
def serve(**arguments: Any) -> None:
    """The endpoint alone, for every loop of the home; or for the bundle in FOLDER, which needs no home.

    With FOLDER no predictions are recorded and no feedback is taken.
    """
    _call("serve", **arguments)


@cli.command()
@click.argument("name")
@click.argument("rows", default="-")
@options.as_json
def predict(**arguments: Any) -> None:
    """Predict ROWS (JSON text, a CSV, Parquet or JSON file, or - for standard input) with the champion."""
    _call("models:predict", **arguments)


@cli.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.argument("rows", metavar="IN")
@click.argument("out", metavar="OUT")
@click.option("--query", metavar="SQL", help="The rows of this select of the database IN.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Write this column of IN (default: the key).")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it is there.")
@options.as_json
def score(**arguments: Any) -> None:
    """Predict every row of IN and write the predictions to OUT; the same call again goes on after a crash.

    \b
    IN    a file, folder, glob or address as for a Loop, a Delta table's folder, URL#TABLE of a database
    OUT   FILE.parquet, FILE.csv, a Delta table's folder, URL#TABLE of a database
    """
    _call("models:score", **arguments)


@cli.command()
@click.argument("name")
@click.argument("data", metavar="FILE")
@click.option("--url", default=None, help="The endpoint (default: that of the settings, http://127.0.0.1:8700).")
@click.option("--token", metavar="REFERENCE", default=None, help="The endpoint's token: env:NAME or file:PATH.")
@click.option("--refused", metavar="FILE", default=None, help="Where refused labels go (default NAME-refused.jsonl).")
@options.as_json
def feedback(**arguments: Any) -> None:
    """Labels and events in bulk, for a running endpoint: a CSV, Parquet or JSON lines file, a table, any source.

    \b
    FILE may be an address, a Delta table's folder or URL#TABLE of a database too.
    Columns: id, or key and time; label or event; if known, at (since when) and propensity.
    """
    _call("feedback", **arguments)


@cli.command()
@options.as_json
def status(**arguments: Any) -> None:
    """Loops, versions, traffic, alarms."""
    _call("models:status", **arguments)


@cli.command()
@click.argument("name", required=False)
@click.option("--limit", type=int, default=20, show_default=True)
@options.as_json
def runs(**arguments: Any) -> None:
    """The newest runs."""
    _call("runs", **arguments)


@cli.command()
@click.argument("run")
@click.option("--diff", "other", metavar="OTHER", help="Only what differs from run OTHER.")
@options.as_json
def show(**arguments: Any) -> None:
    """One run: its steps, their time and their results."""
    _call("show", **arguments)


@cli.command()
@click.argument("run")
@click.argument("step", required=False)
@options.as_json
def logs(**arguments: Any) -> None:
    """What the steps of a run have printed."""
    _call("logs", **arguments)


@cli.command()
@click.argument("run")
@options.as_json
def cancel(**arguments: Any) -> None:
    """Ask a run to stop, wherever it runs."""
    _call("cancel", **arguments)


@cli.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--html", metavar="FILE", help="Write a standalone page on the release, with plots.")
@options.as_json
def why(**arguments: Any) -> None:
    """The written reasons: gate, release, retraining, non-retraining."""
    _call("models:why", **arguments)


@cli.command()
@click.argument("name")
@options.as_json
def models(**arguments: Any) -> None:
    """The versions of a loop's model."""
    _call("models:models", **arguments)


@cli.command("import")
@click.argument("uri")
@click.option("--loop", metavar="NAME", help="The loop that gets the version (default: the registered model's name).")
@click.option("--rows", metavar="FILE", help="Rows of the model's inputs, against which drift is judged.")
@click.option("--target", metavar="COLUMN", help="What a new loop predicts.")
@click.option("--key", metavar="COLUMN", help="What names a row of a new loop.")
@click.option("--trust", is_flag=True, help="Let the model's code run (pickle, torch, pyfunc). It is written down.")
@options.as_json
def import_(**arguments: Any) -> None:
    """Take a model of MLflow under a loop: models:/NAME/3, models:/NAME@ALIAS, runs:/ID/PATH, or a folder.

    A loop's first version takes all traffic; any other waits for promote.
    """
    _call("models:import_", **arguments)


@cli.command()
@click.argument("name", metavar="NAME[@VERSION]")
@options.reason
@options.as_json
def promote(**arguments: Any) -> None:
    """Give a version (default: the canary, else the newest) all traffic."""
    _call("models:promote", **arguments)


@cli.command()
@click.argument("name")
@options.reason
@options.as_json
def rollback(**arguments: Any) -> None:
    """End the canary, or bring back the previous champion."""
    _call("models:rollback", **arguments)


@cli.command()
@click.argument("bundle", metavar="NAME[@VERSION]|FOLDER")
@options.as_json
def verify(**arguments: Any) -> None:
    """Check a bundle's signature and every file. Exit code 1: something isn't as it was signed."""
    _call("models:verify", **arguments)


@cli.command()
@click.argument("name", metavar="NAME[@VERSION]")
@options.reason
@options.as_json
def hold(**arguments: Any) -> None:
    """Stop the running trial where it is, or keep back a version that waits."""
    _call("models:decided", verb="hold", **arguments)


@cli.command()
@click.argument("name", metavar="NAME[@VERSION]")
@options.reason
@options.as_json
def approve(**arguments: Any) -> None:
    """Let a held trial go on, or release a version that is held or waits, as the loop declares."""
    _call("models:decided", verb="approve", **arguments)


@cli.command()
@click.argument("name", metavar="NAME[@VERSION]")
@options.reason
@options.as_json
def reject(**arguments: Any) -> None:
    """End the running trial, or refuse a version that is held or waits, for good."""
    _call("models:decided", verb="reject", **arguments)


@cli.command()
@click.argument("name")
@click.argument("action", type=click.Choice(["show", "diff", "accept", "write"]), default="show")
@click.argument("columns", nargs=-1, metavar="[COLUMN]...")
@options.as_json
def schema(**arguments: Any) -> None:
    """The contract of a loop's rows.

    \b
    show    what it says
    diff    what the source has become
    accept  take that in, or only of COLUMN...
    write   put it into NAME.schema.toml beside FILE, to edit and commit
    """
    _call("schema", **arguments)


@cli.command()
@click.argument("name")
@click.option("--fix", "fixes", multiple=True, metavar="COLUMN=SQL", help="Try a repair, such as x=replace(x,',','.').")
@click.option("--write", "written", metavar="FILE", help="Write the rows into a CSV file, to be edited.")
@click.option("--take", "edited", metavar="FILE", help="Try the rows as they stand in an edited FILE.")
@click.option("--replay", is_flag=True, help="Put the rows that keep the contract now into the next version.")
@options.as_json
def quarantine(**arguments: Any) -> None:
    """Rows that broke a loop's contract: shown by reason, repaired, replayed."""
    _call("quarantine", **arguments)


@cli.command()
@click.argument("name", metavar="NAME|FILE")
@click.option("--html", metavar="FILE", help="Write a standalone report with plots.")
@options.as_json
def monitor(**arguments: Any) -> None:
    """Drift, quality and performance of what is served; with FILE by its own metrics and drift tests too."""
    _call("models:monitor", **arguments)


@cli.command()
@click.argument("name")
@click.option("--diff", "versions", nargs=2, type=int, metavar="A B", help="What version B changed since version A.")
@options.as_json
def data(**arguments: Any) -> None:
    """The versions of a loop's data: when, from where, how many rows; or what changed between two."""
    _call("data", **arguments)


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@click.option("--keep-days", type=click.FloatRange(min=0), default=30, show_default=True, metavar="N")
@options.as_json
def gc(**arguments: Any) -> None:
    """Free what no run of the last days, no model and no lineage needs."""
    _call("gc", **arguments)


@cli.command()
@click.argument("subject")
@click.option("--loop", metavar="NAME", help="Only from this loop (default: every loop with Privacy(subject=...)).")
@options.as_json
def erase(**arguments: Any) -> None:
    """Erase a data subject, SUBJECT, from tables, records, artifacts and logs; name the models trained on it."""
    _call("erase", **arguments)


@cli.command()
@click.argument("action", type=click.Choice(["show", "verify"]), default="show")
@options.as_json
def audit(**arguments: Any) -> None:
    """What people did by hand: who, when, what and why; promote, rollback, hold, approve, reject, import, erase.

    \b
    show    all acts, the oldest first
    verify  whether the log is as it was written; exit code 1: it isn't
    """
    _call("auditing:audit", **arguments)


@cli.command()
@options.as_json
def doctor(**arguments: Any) -> None:
    """What is wrong with the installation or the home, and how to mend it."""
    _call("doctor", **arguments)


def main() -> None:
    """The entry point: errors on one line, exit codes as documented."""
    atexit.register(freeze)  # a process that ends needn't look all through its libraries for garbage: up to a second
    debug = "--debug" in sys.argv  # wherever it stands
    words = ["--debug"] * debug + [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code = cli.main(words, standalone_mode=False, prog_name="mainspring")
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MainspringError as error:
        if debug:
            raise
        click.echo(f"mainspring: {one_line(error)}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("mainspring: interrupted; run the same command again to go on", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        said = one_line(error)[:500]
        click.echo(f"mainspring: {type(error).__name__}: {said}; run it again with --debug for the traceback", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
