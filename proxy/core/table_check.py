"""The proof of a table: every rule's example reaches its rule."""

from __future__ import annotations

from proxy.core.problem import Problem
from proxy.core.table import Rule, Table


def check(table: Table) -> list[Problem]:
    """Prove that every rule's example reaches its rule; return what does not hold.

    Where a rule of one's own takes over what the shipped table shows as an example, that is
    the purpose of extending it, and no problem.
    """
    problems = []
    places = {id(rule): place for place, rule in enumerate(table.rules)}
    for place, rule in enumerate(table.rules):
        example = rule.example
        reached = table.resolve(example.error, example.context).rule
        if reached is rule:
            continue
        taken_over = reached is not None and places[id(reached)] < place
        if reached is not None and taken_over and _file_of(reached) != _file_of(rule):
            continue
        file, _, line = rule.place.rpartition(":")
        if reached is None or not taken_over:
            why = rule.match(example.error, example.context, table.words)
            what = f"the example of {rule.name!r} does not match its own rule: {why}"
            remedy = "Correct the example or the conditions."
        else:
            what = f"the example of {rule.name!r} is taken by {reached.name!r} ({reached.place})"
            remedy = "Move this rule above that one, or make that one narrower."
        problems.append(Problem(file, int(line), what, remedy))
    return problems


def _file_of(rule: Rule) -> str:
    return rule.place.rpartition(":")[0]
