"""Options that several commands take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from mainspring.core.errors import UsageError


def env(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--env NAME` is MAINSPRING_ENV=NAME, for the processes that a command starts as well."""

    def choose(context: click.Context, option: click.Parameter, name: str | None) -> None:
        if name is not None:
            os.environ["MAINSPRING_ENV"] = name

    return click.option(
        "--env", metavar="NAME", callback=choose, expose_value=False, is_eager=True,
        help="The settings of [tool.mainspring.env.NAME].",
    )(command)  # fmt: skip


def endpoint(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--tls", type=click.Choice(["own", "proxy"]), default=None, help="Who encrypts (default own)."),
        click.option("--key", metavar="FILE", default=None, help="The certificate's private key (PEM)."),
        click.option("--cert", metavar="FILE", default=None, help="The endpoint's certificate (PEM)."),
        click.option("--token", metavar="REFERENCE", default=None, help="The endpoint's token: env:NAME or file:PATH."),
        click.option("--workers", type=int, default=None, help="Processes that serve the endpoint (default 1)."),
        click.option("--port", type=int, default=None, help="Port of the endpoint (default 8700)."),
        click.option("--host", default=None, help="Address of the endpoint (default 127.0.0.1)."),
    ):
        command = option(command)
    return command


def reason(command: Callable[..., Any]) -> Callable[..., Any]:
    def check(context: click.Context, option: click.Parameter, said: str) -> str:
        if not said.strip():
            raise UsageError("--reason is empty; say why, such as 'better on the weekend', or leave it out")
        return said

    return click.option(
        "--reason", metavar="TEXT", default="by hand", show_default=True, callback=check, help="For the audit log."
    )(command)


def as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A run parameter."),
        click.option("--from", "start", metavar="STEP", help="Run from this step on."),
        click.option("--until", metavar="STEP", help="Run up to this step."),
        click.option("--only", multiple=True, metavar="STEP", help="Run this step only."),
        click.option("--force", multiple=True, metavar="STEP", help="Run this step even when it is cached."),
    ):
        command = option(command)
    return command
