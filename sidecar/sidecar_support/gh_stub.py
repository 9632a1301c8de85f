"""Stands in for GitHub's ``gh``: keeps pull requests and labels in a folder and answers like the program."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from sidecar_support.gates import Gates


def main(state: Path) -> int:
    """What the program does with the arguments it was started with."""
    words = sys.argv[1:]
    with (state / "gh-calls").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    store = state / "pull-requests.json"
    made: list[dict[str, Any]] = json.loads(store.read_text()) if store.exists() else []
    options: dict[str, list[str]] = {}
    for name, value in itertools.pairwise(words):
        if name.startswith("--"):
            options.setdefault(name, []).append(value)
    match words[:2]:
        case ["label", "create"]:
            return 1 if (state / "no-labels").exists() else 0
        case ["pr", "list"]:
            found = [{"url": pr["url"]} for pr in made if pr["head"] == options["--head"][0]]
            sys.stdout.write(json.dumps(found) + "\n")
            return 0
        case ["pr", "create"]:
            return _create(state, store, options)
        case _:
            sys.stderr.write(f"unknown command {words}\n")
            return 1


def _create(state: Path, store: Path, options: dict[str, list[str]]) -> int:
    gates = Gates(state)
    gates.pass_("before-pr")
    if (state / "no-labels").exists() and "--label" in options:
        sys.stderr.write(f"could not add label: {options['--label'][0]!r} not found\n")
        return 1
    made: list[dict[str, Any]] = json.loads(store.read_text()) if store.exists() else []
    for pr in made:
        if pr["head"] == options["--head"][0]:
            sys.stderr.write(f"a pull request for branch {pr['head']!r} already exists:\n{pr['url']}\n")
            return 1
    url = f"https://forge.example/pull/{len(made) + 1}"
    pr = {name.removeprefix("--"): values[0] for name, values in options.items()}
    pr |= {"url": url, "labels": options.get("--label", []), "body": Path(options["--body-file"][0]).read_text()}
    store.write_text(json.dumps([*made, pr]))
    gates.pass_("after-pr")
    sys.stdout.write(f"Creating pull request for {pr['head']} into {pr['base']}\n{url}\n")
    return 0
