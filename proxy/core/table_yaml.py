"""YAML to plain values, each with its line.

Read node by node, so that every problem has its place, and so that what YAML allows but a
table must not have is refused: a key given twice (the first would vanish), aliases (a few
lines can expand to gigabytes), values that YAML takes for dates or for `no`.
"""

from __future__ import annotations

from typing import Final

import yaml

from proxy.core.problem import Problem, TableError

Place = tuple[str | int, ...]
"""A value's place in the file: keys and indexes, from the top."""

# A table has five levels; many more are a mistake, and cost the parser the square of them.
_MAX_NESTING: Final = 12

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(data: bytes, file: str) -> tuple[object, dict[Place, int], list[Problem]]:
    """Return the value, the line of each place, and what is wrong.

    Raises TableError where the file is not YAML at all.
    """
    try:
        text = data.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_NESTING:
                line = event.start_mark.line + 1 if event.start_mark else 1
                what, remedy = "is nested too deeply", "A table has at most five levels."
                raise TableError([Problem(file, line, what, remedy)])
            if isinstance(event, yaml.AliasEvent):
                what, remedy = "an alias (*name)", "Write the value out; a table has no aliases."
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise TableError([Problem(file, line, what, remedy)])
        root = yaml.compose(text, _Loader)
    except UnicodeDecodeError:
        raise TableError([Problem(file, 1, "is not UTF-8 text", "Save it as UTF-8.")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what, remedy = f"is not YAML: {error.problem}", "Check the indentation and the quotes here."
        line = mark.line + 1 if mark else 1
        raise TableError([Problem(file, line, what, remedy)]) from None
    except (yaml.YAMLError, RecursionError):
        what, remedy = "is not YAML", "Check for control characters and deep nesting."
        raise TableError([Problem(file, 1, what, remedy)]) from None
    problems: list[Problem] = []
    lines: dict[Place, int] = {}
    value = _Nodes(file, problems, lines).read(root, ()) if root is not None else None
    return value, lines, problems


class _Nodes:
    """Turns YAML nodes into plain values, noting each one's line."""

    def __init__(self, file: str, problems: list[Problem], lines: dict[Place, int]) -> None:
        self._file = file
        self._problems = problems
        self._lines = lines

    def read(self, node: yaml.Node, place: Place) -> object:
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*place, i)) for i, child in enumerate(node.value)]
        return self._read_scalar(node, line)

    def _read_mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        out: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._say(line, "a key that is not a word", "Write a plain key.")
                continue
            key = key_node.value
            if key in out:
                first = self._lines[(*place, key)]
                self._say(
                    line, f"the key {key!r} stands twice (first in line {first})", "Merge the two."
                )
                continue
            self._lines[(*place, key)] = line
            out[key] = self.read(value_node, (*place, key))
        return out

    def _read_scalar(self, node: yaml.Node, line: int) -> object:
        kind = node.tag.rsplit(":", 1)[-1]
        text = str(node.value)
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            if kind == "int" and text.lstrip("+-").isdecimal():
                return int(text)
            if kind == "float":
                return float(text)
        except ValueError:
            pass
        meant = "Write true or false" if kind == "bool" else "Write it another way"
        remedy = f'{meant}; or, if it is text, "{text}" in quotes.'
        self._say(line, f"YAML takes {text!r} for a {kind}", remedy)
        return text

    def _say(self, line: int, what: str, remedy: str) -> None:
        self._problems.append(Problem(self._file, line, what, remedy))
