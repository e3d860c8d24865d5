"""Shell completion: a script for bash, zsh or fish, made from the descriptions of the options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from flops_fl.options.common import Options
from flops_fl.options.described import PROCESS, Described, described, flag, option
from flops_fl.options.help import HELP_ALL, choices_of

Shell = Literal["bash", "zsh", "fish"]

_PATHS = ("FILE", "FOLDER", "REPO", "RUN", "SOURCE")  # metavars of what may be a path
_IN_QUOTES, _IN_FISH = '\\"', "\\'"  # characters that need a backslash there
_SHOWN = {"--help": "show the options", HELP_ALL: "show all options", "--version": "show it"}


class CompletionOptions(Options):
    """Options of ``flops-fl completion``."""

    shell: Shell = option("bash, zsh or fish", PROCESS, metavar="SHELL", positional=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """A command."""

    line: str
    options: type[Options]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word that may come next, or an option."""

    text: str
    about: str
    value: str = ""
    """The metavar of an option's value; empty for switches and words."""
    choices: tuple[str, ...] = ()

    @property
    def is_path(self) -> bool:
        return self.value in _PATHS


def script(shell: Shell, entries: Mapping[str, Entry]) -> str:
    """The script that completes these commands in a shell; `entries` are by name."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](dict(_levels(entries)))


def _levels(entries: Mapping[str, Entry]) -> Iterator[tuple[str, list[_Word]]]:
    """The words that may follow each command, and each first part of one: "" and ``data``."""
    groups: dict[str, dict[str, str]] = {}
    for name, entry in entries.items():
        *before, last = name.split()
        for depth, word in enumerate(before):
            groups.setdefault(" ".join(before[:depth]), {}).setdefault(word, "more commands")
        groups.setdefault(" ".join(before), {})[last] = entry.line
    for name, words in groups.items():
        shown = {**words, "--help": _SHOWN["--help"], "--version": _SHOWN["--version"]}
        yield name, [_Word(text, about) for text, about in shown.items()]
    for name, entry in entries.items():
        yield name, [*_options(entry.options), *(_Word(*item) for item in _SHOWN.items())]


def _options(cls: type[Options]) -> Iterator[_Word]:
    for name, info in cls.model_fields.items():
        about: Described = described(info)
        choices = tuple(choices_of(info.annotation))
        if about.positional:
            yield from (_Word(choice, "") for choice in choices)
            continue
        value = about.metavar or ("VALUE" if choices else "")
        yield _Word(flag(name), info.description or "", value, choices)


def _arms(levels: Mapping[str, list[_Word]]) -> str:
    """The steps from a level to one below it, as patterns of a shell's ``case``."""
    return "|".join(quote(f"{level}/{word}") for level, word in _steps(levels))


def _steps(levels: Mapping[str, list[_Word]]) -> list[tuple[str, str]]:
    return [(" ".join(name.split()[:-1]), name.split()[-1]) for name in levels if name]


_BASH = """\
# Completion of flops-fl for bash: source <(flops-fl completion bash)
_flops_fl() {{
    local at= word words= current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    # To bash, = is a word of its own.
    [[ $current == = ]] && current=
    [[ $before == = ]] && before=${{COMP_WORDS[COMP_CWORD-2]}}
    COMPREPLY=()
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        [[ $word == -- ]] && return
        case "$at/$word" in
            {arms}) at="${{at:+$at }}$word" ;;
        esac
    done
    case "$at $before" in
{values}
    esac
    case "$at" in
{levels}
    esac
    [[ $current == -* || $words != -* ]] && COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _flops_fl flops-fl
"""


def _bash(levels: Mapping[str, list[_Word]]) -> str:
    """For values without choices, ``complete -o default`` offers files."""
    values, words = [], []
    for level, known in levels.items():
        for word in known:
            if word.value:
                offered = f'COMPREPLY=($(compgen -W "{" ".join(word.choices)}" -- "$current")); '
                pattern = quote(f"{level} {word.text}")
                values.append(f"        {pattern}) {offered if word.choices else ''}return ;;")
        words.append(f'        {quote(level)}) words="{" ".join(w.text for w in known)}" ;;')
    return _BASH.format(arms=_arms(levels), values="\n".join(values), levels="\n".join(words))


_ZSH = """\
#compdef flops-fl
# Completion of flops-fl for zsh: source <(flops-fl completion zsh)
_flops_fl() {{
    local at= word index first=2
    for ((index = 2; index < CURRENT; index++)); do
        word=$words[index]
        case "$at/$word" in
            {arms}) at="${{at:+$at }}$word"; first=$((index + 1)) ;;
            *) break ;;
        esac
    done
    # What follows sees the command's last word as the command.
    words=("${{(@)words[first-1,-1]}}")
    ((CURRENT -= first - 2))
    case "$at" in
{levels}
    esac
}}
compdef _flops_fl flops-fl
"""


def _zsh(levels: Mapping[str, list[_Word]]) -> str:
    blocks = []
    for level, known in levels.items():
        specs = [_zsh_option(word) for word in known if word.text.startswith("-")]
        words = [
            f'{word.text}\\:"{_escaped(word.about, _IN_QUOTES + ":")}"'
            for word in known
            if not word.text.startswith("-")
        ]
        specs.append(f"1:word:(({' '.join(words)}))" if words else "*:path:_files")
        blocks.append(f"        {quote(level)}) _arguments {' '.join(map(quote, specs))} ;;")
    return _ZSH.format(arms=_arms(levels), levels="\n".join(blocks))


def _zsh_option(word: _Word) -> str:
    text = f"{word.text}[{_escaped(word.about, '[]:')}]"
    if not word.value:
        return text
    offered = f"({' '.join(word.choices)})" if word.choices else "_files" if word.is_path else " "
    return f"{text}:{word.value.replace(':', ' ')}:{offered}"


_FISH = """\
# Completion of flops-fl for fish: flops-fl completion fish | source
function __flops_fl_at
    set -l at ""
    for word in (commandline -opc)[2..-1]
        switch "$at/$word"
            case {arms}
                set at (string trim "$at $word")
        end
    end
    test "$at" = "$argv"
end
complete -c flops-fl -f
"""


def _fish(levels: Mapping[str, list[_Word]]) -> str:
    arms = " ".join(quote(f"{level}/{word}") for level, word in _steps(levels))
    lines = [_FISH.format(arms=arms)]
    for level, known in levels.items():
        head = f"complete -c flops-fl -n '__flops_fl_at {level}'"
        if all(word.text.startswith("-") for word in known):
            lines.append(f"{head} -F\n")
        for word in known:
            about = f" -d {_fish_quoted(word.about)}" if word.about else ""
            if not word.text.startswith("-"):
                lines.append(f"{head} -a {word.text}{about}\n")
                continue
            value = f" -x -a '{' '.join(word.choices)}'" if word.choices else " -r"
            value = value if word.choices or word.is_path else " -x"
            lines.append(
                f"{head} -l {word.text.removeprefix('--')}{value if word.value else ''}{about}\n"
            )
    return "".join(lines)


def _fish_quoted(text: str) -> str:
    return f"'{_escaped(text, _IN_FISH)}'"


def _escaped(text: str, characters: str) -> str:
    """The text with a backslash before each of these characters."""
    return "".join(f"\\{letter}" if letter in characters else letter for letter in text)
