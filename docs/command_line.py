"""Command line: a Sphinx directive that writes what each command's ``--help`` says."""

import re
from inspect import cleandoc

import typer.main
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

ENDS = re.compile(r"\[/?[a-z ]+\]")  # marks of rich


class CommandLine(Directive):
    """``.. command-line::`` becomes a section for each command, with its arguments and options."""

    def run(self):
        """Make the sections."""
        from hybridus.cli import app

        root = typer.main.get_command(app)
        found = []
        for name, command in root.commands.items():
            found += self._section(f"hybridus {name}", command)
        return found

    def _section(self, name, command):
        section = nodes.section(ids=[nodes.make_id(name)], names=[name])
        section += nodes.title(text=name)
        lines = cleandoc(ENDS.sub("", command.help or "")).splitlines()
        lines = [re.sub(r"`([^`]+)`", r"``\1``", line) for line in lines]
        self.state.nested_parse(StringList(lines, "help"), 0, section)
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            shown = [one for one in command.params if one.param_type_name == kind]
            shown = [one for one in shown if not getattr(one, "hidden", False)]
            if shown:
                section += nodes.rubric(text=title)
                section += self._list(shown)
        inner = getattr(command, "commands", {})
        for inner_name, one in inner.items():
            section += self._section(f"{name} {inner_name}", one)
        return [section]

    def _list(self, shown):
        made = nodes.definition_list()
        for one in shown:
            names = [*one.opts, *one.secondary_opts] if one.opts[0].startswith("-") else [one.name]
            term = nodes.term()
            for number, name in enumerate(names):
                term += nodes.Text(", " * bool(number))
                term += nodes.literal(text=name.upper() if name == one.name else name)
            if one.metavar and one.opts[0].startswith("-"):
                term += nodes.Text(f" {one.metavar}")
            text = ENDS.sub("", one.help or "")
            if one.required:
                text += " Required."
            elif (said := _default(one)) is not None:
                text += f" Default: {said}."
            body = nodes.definition()
            text = re.sub(r"`([^`]+)`", r"``\1``", text).replace("*", r"\*")
            self.state.nested_parse(StringList([text], "help"), 0, body)
            made += nodes.definition_list_item("", term, body)
        return made


def _default(option):
    shown = getattr(option, "show_default", None)
    if isinstance(shown, str):
        return shown
    if option.default in (None, "", (), []) or isinstance(option.default, bool):
        return None
    return None if callable(option.default) else str(option.default)


def setup(app):
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
