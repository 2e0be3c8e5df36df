"""What commands say: plain lines and JSON on stdout, errors on stderr; see also `tables` and `meter`."""

import json
from typing import NoReturn

import click


class Failure(click.ClickException):
    """The command did not do what it was asked; the text is one line."""

    exit_code = 1


def say(text: str) -> None:
    """Print a line for people."""
    click.echo(text)


def emit(value: object) -> None:
    """Print one JSON value as one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    """Print a line for people that is not the output of the command."""
    click.echo(text, err=True)


def complain(text: str) -> None:
    """Print an error or warning: always one line."""
    click.echo(" ".join(f"metaq: {text}".split("\n")).rstrip(), err=True)


def refuse(text: str, as_json: bool) -> NoReturn:
    """End with 1 and a text that scripts of 1.4.6.2 may look for: on stdout, as its script does. JSON: an error."""
    if as_json:
        raise Failure(text)
    say(text)
    raise click.exceptions.Exit(1)
