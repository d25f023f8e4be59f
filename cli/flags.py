"""The command line: every flag, what goes together, and the parameters that come of it."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import config
from core.errors import UsageError
from core.text import WIDTH, plain

STAGES = tuple(config.STAGES.values())
# Parameters whose flag has another name.
FLAG_OF = {"evaluation_frequency": "eval_freq", "random_seed": "seed"}
ON: dict[str, Any] = {"action": "store_true"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End the program with one line, and no usage of all flags."""
        self.exit(2, f"{self.prog}: error: {plain(message)} (--help lists all flags)\n")


def parser(about: str | None = None) -> argparse.ArgumentParser:
    """Every flag, with its default in --help below the text ``about``; an unknown one ends the program."""
    p = _Parser(
        prog="main.py",
        description=about,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=WIDTH),
        epilog="Exit status: 0 done · 2 bad usage · 3 something needed is missing · 130 interrupted",
        allow_abbrev=False,
    )

    def flag(name: str, about: str, **kind: Any) -> None:
        default = kind.get("default")
        shown = f" (default: {default})" if default not in (None, False) else ""
        p.add_argument(f"--{name}", help=about.replace("%", "%%") + shown, **kind)

    d = config.EXPERIMENT_CONFIG
    who = f"whose preferences: {', '.join(config.PERSONAS)}, all, or a file such as persona.example.toml"
    flag("persona", f"{who} (default: {config.DEFAULT_PERSONA})", metavar="NAME")
    flag("prompts", "own prompts instead of generated ones: .txt (one a line), .jsonl or .csv", metavar="FILE")
    flag("responses", "own answers instead of asking, with prompt, model, response", nargs="+", metavar="FILE")
    flag("preferences", "human votes instead of generated data: a file, a hub id or an export", metavar="FILE")
    flag("skip_bad_rows", "of votes or own answers: leave single wrong rows out, counted", **ON)
    servers = "auto takes Ollama where it answers; openai: any server with the OpenAI API, at OPENAI_BASE_URL"
    flag("backend", servers, choices=["auto", "ollama", "openai", "embedded"], default="auto")
    flag("models", "the contestants (default: all configured)", nargs="+", metavar="TAG")
    flag("judge", f"the model that writes prompts and judges (default: {config.DEFAULT_JUDGE})", metavar="TAG")
    flag("concurrency", "requests in flight to a server", type=int, default=d.concurrency)
    flag("timeout", "seconds for one answer, times the requests in flight", type=float, default=d.timeout)
    limits = f"tokens for one answer (default: {d.num_predict}; embedded: {config.EMBEDDED_NUM_PREDICT})"
    flag("num_predict", limits, type=int)
    flag("num_prompts", f"prompts per persona, or the first of --prompts, ≥ 5 (default: {d.num_prompts})", type=int)
    flag("eval_freq", "evaluate every N preferences", type=int, default=d.evaluation_frequency)
    flag("lambda_reg", "weight of the rank regularization; 0 means none", type=float, default=d.lambda_reg)
    flag("incremental", "retrain B and C at every evaluation point on the preferences so far", **ON)
    truths = ["round_robin", "listwise", "both"]
    flag("ground_truth", "how prompts are truly ranked", choices=truths, default="round_robin")
    flag("ablate", "the table of baselines and ablations", **ON)
    flag("rank", "rank the models for this prompt by what the cache or votes hold; - reads stdin", metavar="PROMPT")
    flag("json", "with --rank: one JSON line a prompt", **ON)
    where = "give your own preferences on a page in the browser, or here in the terminal"
    flag("vote", where, nargs="?", const="browser", choices=["browser", "terminal"])
    flag("check", "look only: what is missing, how many calls a run makes; with --preferences: its rows", **ON)
    anew = f"make this stage and what follows anew: {', '.join(STAGES)} or all"
    flag("refresh", anew, nargs="+", choices=[*STAGES, "all"], metavar="STAGE")
    flag("base_model", "hub id or folder of the reward base", default="auto")
    flag("device", "where the base runs and heads are trained", choices=["auto", "cpu", "cuda"], default="auto")
    flag("ray", "read texts on Ray: local, auto or an address (docs/scale.md)", metavar="local|auto|ADDRESS")
    flag("seed", "seeds everything that draws", type=int, default=d.random_seed)
    flag("cache_dir", "where answers are kept", type=_folder, default=Path("cache"))
    flag("results_dir", "where results are written", type=_folder, default=Path("results"))
    flag("log_level", "debug shows each call", choices=["debug", "info", "warning", "error"], default="info")
    return p


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("a folder's name must not be empty")
    return Path(text)


def configure(args: argparse.Namespace, backend: str, prompts: int = 0) -> config.ExperimentConfig:
    """The run's parameters; ``prompts``: how many of the user's own there are. Raises UsageError naming the flag of an
    impossible value."""
    flags = {field.name: FLAG_OF.get(field.name, field.name) for field in fields(config.ExperimentConfig)}
    values = {name: value for name, flag in flags.items() if (value := getattr(args, flag, None)) is not None}
    if prompts:
        values["num_prompts"] = prompts
    if backend == "embedded":
        values.setdefault("num_predict", config.EMBEDDED_NUM_PREDICT)
    try:
        return replace(config.EXPERIMENT_CONFIG, **values)
    except ValueError as error:
        flag = flags.get(str(error).split(" ")[0])  # its message begins with the parameter's name
        about = f"{prompts} prompts" if prompts and flag == "num_prompts" else f"--{flag}"
        raise UsageError(f"{about}: {error}") from None


# ── What goes together ───────────────────────────────────────────────────────────────────────────────────

MODES = ("preferences", "rank", "vote", "check")
TOGETHER = (["preferences", "check"], ["preferences", "rank"])  # a look at the votes; a ranking by them
# flag, another flag that it does not go with, why
APART = (
    ("judge", "preferences", "the people themselves judge"),
    ("ablate", "preferences", "it is a table of a persona's run"),
    ("incremental", "preferences", "of people only the start and the end of a learning curve are measured"),
    ("persona", "preferences", "the people who voted are whose preferences count"),
    ("prompts", "preferences", "the votes bring their own prompts"),
    ("ground_truth", "preferences", "people's own votes are the truth"),
    ("refresh", "rank", "it asks only for the new prompt; run without --rank to make a stage anew"),
    *(("ray", mode, "no text is read") for mode in ("vote", "check")),
)
NEEDS = {"json": ("rank",), "skip_bad_rows": ("preferences", "responses")}  # flag → those that it has a meaning with


def check_combination(args: argparse.Namespace) -> None:
    """Raises UsageError for flags that do not go together."""
    usual = parser()
    given = {flag for flag, value in vars(args).items() if value not in (usual.get_default(flag), [])}
    for flag, value in vars(args).items():
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"--{flag} is empty: give it a value or leave it out.")
    modes = [name for name in MODES if name in given]
    if len(modes) > 1 and modes not in TOGETHER:
        raise UsageError(f"--{modes[0]} and --{modes[1]} do not go together: take one of them.")
    apart = list(APART)
    if "rank" not in given:
        apart.append(("models", "preferences", "the votes name their models"))
    if "preferences" not in given:
        apart.append(("responses", "rank", "the models of a file can't be asked for new answers"))
    if args.persona == "all":
        apart += [("persona", flag, "name one in place of all") for flag in ("rank", "vote", "prompts", "responses")]
    if args.backend == "embedded":
        apart.append(("ground_truth", "backend", "the embedded model weighs texts one by one, it makes no lists"))
    for flag, other, why in apart:
        if {flag, other} <= given:
            raise UsageError(f"--{flag} does not go with --{other}: {why}.")
    for flag, others in NEEDS.items():
        if flag in given and given.isdisjoint(others):
            raise UsageError(f"--{flag} goes with --{' and --'.join(others)} only.")


def refreshed(stages: Sequence[str] | None) -> tuple[str, ...]:
    """The stages that ``--refresh`` makes anew, with those that follow."""
    firsts = [0 if stage == "all" else STAGES.index(stage) for stage in stages or ()]
    return STAGES[min(firsts, default=len(STAGES)) :]


# Flags of one call alone; every other one is part of what another command has to be told too: who answers and judges,
# with which limits, what reads the texts, where all of it lies.
THIS_CALL = frozenset({
    "persona", "preferences", "num_prompts", "eval_freq", "incremental", "ground_truth", "ablate", "rank", "json",
    "vote", "check", "refresh", "log_level",
})  # fmt: skip


def command_like(args: argparse.Namespace, name: str, **others: str) -> str:
    """``python main.py`` for the run called ``name``, with the flags ``others`` and those that this call has beyond
    their defaults."""
    usual, left = parser(), set(THIS_CALL)
    if args.preferences:
        others = {"preferences": args.preferences} | others
    if "preferences" not in others:
        others = {"persona": name if args.persona in (None, "all") else args.persona} | others
    else:  # the people judge, on prompts of their own and, unless they rank, on their models
        left |= {"judge", "prompts"} if "rank" in others else {"judge", "prompts", "models"}
        left |= set() if args.preferences else {"responses"}  # votes given in a session hold their texts
    given = {flag: value for flag, value in vars(args).items() if flag not in left and value != usual.get_default(flag)}
    words = ["python", "main.py"]
    for flag, value in (others | given).items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{flag}", *(str(one) for one in values if one is not True)]
    return plain(shlex.join(words))
