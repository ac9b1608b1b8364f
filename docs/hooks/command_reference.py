"""The reference of the command line, from the commands themselves: what `fedsec COMMAND --help` says, as a page."""

import re
from typing import Any

from markdown_tables import table
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from fedsec.cli import app

PAGE = """# Command line

{about}

{commands}

`--help` with any of them says what stands here. `fedsec --install-completion` teaches your shell to complete the names
of commands, options, scenarios and methods.

{each}
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `reference/command_line.md`."""
    group: Any = get_command(app)
    commands = [command for command in group.commands.values() if not command.hidden]
    rows = [(f"[`fedsec {one.name}`](#fedsec-{one.name})", _first_sentence(one.help)) for one in commands]
    content = PAGE.format(
        about=group.help,
        commands="\n".join(table(("command", "what it does"), rows)),
        each="\n\n".join(_command(command) for command in commands),
    )
    files.append(File.generated(config, "reference/command_line.md", content=content))
    return files


def _command(command: Any) -> str:
    with command.make_context(f"fedsec {command.name}", [], resilient_parsing=True) as context:
        usage = " ".join([f"fedsec {command.name}", *command.collect_usage_pieces(context)])
        arguments, options = [], []
        for parameter in command.params:
            if getattr(parameter, "hidden", False):
                continue
            if parameter.param_type_name == "argument":
                arguments.append((f"`{parameter.make_metavar(context)}`", parameter.help or ""))
                continue
            names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
            metavar = "" if parameter.is_flag else f" `{parameter.make_metavar(context)}`"
            options.append((names + metavar, _default(parameter), parameter.help or ""))
    lines = [f"## fedsec {command.name}", "", f"    {usage}", "", *_help(command.help), ""]
    lines += [*table(("argument", "meaning"), arguments), ""] if arguments else []
    return "\n".join([*lines, *table(("option", "default", "meaning"), options)])


def _help(text: str | None) -> list[str]:
    """A command's text; `\\b` stands before what is not to be wrapped, which is shown as it is."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", (text or "").strip()):
        kept = paragraph.startswith("\b")
        block = paragraph.removeprefix("\b\n")
        lines += ["\n".join(f"    {line}" for line in block.splitlines()) if kept else block, ""]
    return lines


def _first_sentence(text: str | None) -> str:
    return re.split(r"(?<=\.)\s", (text or "").strip())[0].replace("\n", " ")


def _default(option: Any) -> str:
    told = option.show_default
    if isinstance(told, str):
        return told
    value = option.default
    if told is False or value in (None, False, [], ()) or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"
