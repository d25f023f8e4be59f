"""The command line: every flag, what goes together, and the parameters that come of it."""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import config
from core.errors import UsageError
from core.text import plain

Flag = Callable[..., None]

ABOUT = """Which of my models is best for me, and for this prompt?

python main.py --persona coder                        the experiment, once
python main.py --num_prompts 5 --models A B C         the first five minutes
python main.py --persona me.toml --prompts mine.txt   for a person of your own, on your own prompts
python main.py --persona coder --incremental          with learning curves of all systems
python main.py --persona coder --rank "How do I …?"   which model for this prompt, by what the cache holds
python main.py --check                                what is there, what is missing, how many calls a run makes
"""
# What --refresh makes anew, in the order of the stages, and the files of each.
STAGE_FILES = {
    "prompts": config.PROMPTS_FILE,
    "responses": config.RESPONSES_FILE,
    "preferences": config.PREFERENCES_FILE,
    "ground_truth": config.GROUND_TRUTH_FILE,
    "features": config.FEATURES_FILES,
}
# Parameters that have a flag of another or the same name; num_predict has two defaults and is set apart.
PARAMETERS = {
    "num_prompts": "num_prompts", "evaluation_frequency": "eval_freq", "lambda_reg": "lambda_reg",
    "random_seed": "seed", "incremental": "incremental", "ground_truth": "ground_truth",
    "concurrency": "concurrency", "timeout": "timeout",
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Every flag, with its default in --help."""
    p = argparse.ArgumentParser(
        prog="main.py",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 done · 2 bad usage · 3 something needed is missing · 130 interrupted",
        allow_abbrev=False,
    )

    def flag(name: str, about: str, **kind: object) -> None:
        default = kind.get("default")
        shown = f" (default: {default})" if default not in (None, False) else ""
        p.add_argument(f"--{name}", help=about.replace("%", "%%") + shown, **kind)  # type: ignore[arg-type]

    d = config.EXPERIMENT_CONFIG
    _flags_of_who(flag)
    flag("num_prompts", f"prompts per persona, or the first of --prompts, ≥ 5 (default: {d.num_prompts})", type=int)
    flag("eval_freq", "evaluate every N preferences", type=int, default=d.evaluation_frequency)
    flag("lambda_reg", "weight of the rank regularization; 0 means none", type=float, default=d.lambda_reg)
    flag("incremental", "retrain B and C at every evaluation point on the preferences so far", action="store_true")
    truths = ["round_robin", "listwise", "both"]
    flag("ground_truth", "how prompts are truly ranked", choices=truths, default="round_robin")
    flag("ablate", "the table of baselines and ablations", action="store_true")
    rank = "rank the contestants for this prompt by all that the cache (or --preferences FILE) holds; - reads stdin"
    flag("rank", rank, metavar="PROMPT")
    flag("json", "with --rank: one JSON line a prompt", action="store_true")
    where = "give your own preferences on a page in the browser, or here in the terminal"
    flag("vote", where, nargs="?", const="browser", choices=["browser", "terminal"])
    look = "look only: what is there, what is missing, how many calls a run makes; with --preferences: its rows"
    flag("check", look, action="store_true")
    anew = f"make this stage and what follows anew: {', '.join(STAGE_FILES)} or all"
    flag("refresh", anew, nargs="+", choices=[*STAGE_FILES, "all"], metavar="STAGE")
    flag("base_model", "hub id or folder of the reward base", default="auto")
    flag("device", "where the base runs and heads are trained", choices=["auto", "cpu", "cuda"], default="auto")
    many = "read texts on Ray: local (this machine's cores or GPUs), auto or the address of a cluster (docs/scale.md)"
    flag("ray", many, metavar="local|auto|ADDRESS")
    flag("seed", "seeds everything that draws", type=int, default=d.random_seed)
    flag("cache_dir", "where answers are kept", type=_folder, default=Path("cache"))
    flag("results_dir", "where results are written", type=_folder, default=Path("results"))
    flag("log_level", "debug shows each call", choices=["debug", "info", "warning", "error"], default="info")
    return p


def _flags_of_who(flag: Flag) -> None:
    """Whose preferences, on what, and who answers and judges."""
    d = config.EXPERIMENT_CONFIG
    who = (
        f"whose preferences: {', '.join(config.PERSONAS)}, all, or a file such as me.toml that describes a person "
        f"(persona.example.toml is one; default: {config.DEFAULT_PERSONA})"
    )
    flag("persona", who, metavar="NAME")
    flag("prompts", "own prompts instead of generated ones: .txt (one a line), .jsonl or .csv", metavar="FILE")
    given = "own answers instead of asking: JSON Lines, JSON or CSV with prompt, model, response (or alpaca_eval's)"
    flag("responses", given, nargs="+", metavar="FILE")
    votes = "human votes instead of generated data: JSON Lines, JSON, CSV, Parquet, a hub id, or an export (README)"
    flag("preferences", votes, metavar="FILE")
    flag("skip_bad_rows", "of votes or own answers: leave single wrong rows out, counted", action="store_true")
    servers = "auto takes Ollama where it answers; openai: any server with the OpenAI API, at OPENAI_BASE_URL"
    flag("backend", servers, choices=["auto", "ollama", "openai", "embedded"], default="auto")
    everyone = "a subset of the contestants, or other models of the server (default: all configured)"
    flag("models", everyone, nargs="+", metavar="TAG")
    flag("judge", f"the model that writes prompts and judges (default: {config.DEFAULT_JUDGE})", metavar="TAG")
    flag("concurrency", "requests in flight to a server", type=int, default=d.concurrency)
    waits = "seconds for one answer; a request waits so long for each one in flight at its server"
    flag("timeout", waits, type=float, default=d.timeout)
    limits = f"tokens for one answer (default: {d.num_predict}; embedded: {config.EMBEDDED_NUM_PREDICT})"
    flag("num_predict", limits, type=int)


def _folder(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("a folder's name must not be empty")
    return Path(text)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of a command line; an unknown one ends the program, with a guess at what was meant."""
    p = parser()
    args, rest = p.parse_known_args(argv)
    if rest:
        known = [name for action in p._actions for name in action.option_strings]
        flag = rest[0].partition("=")[0]
        near = difflib.get_close_matches(flag.replace("-", "_").replace("__", "--", 1), known, n=1)
        guess = f" (did you mean {near[0]}?)" if near else ""
        p.error(plain(f"unrecognized arguments: {' '.join(rest)}{guess}"))
    return args


def configure(args: argparse.Namespace, backend: str, prompts: int = 0) -> config.ExperimentConfig:
    """The run's parameters; ``prompts``: how many of the user's own there are. Raises UsageError naming the flag of an
    impossible value."""
    values = {key: value for key, flag in PARAMETERS.items() if (value := getattr(args, flag)) is not None}
    if prompts:
        values["num_prompts"] = prompts
    usual = config.EMBEDDED_NUM_PREDICT if backend == "embedded" else config.EXPERIMENT_CONFIG.num_predict
    values["num_predict"] = usual if args.num_predict is None else args.num_predict
    try:
        return config.ExperimentConfig(**values)
    except ValueError as error:
        flag = PARAMETERS.get(str(error).split(" ")[0])  # its message begins with the parameter's name
        raise UsageError(f"--{flag}: {error}" if flag else str(error)) from None


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
    ("refresh", "rank", "it asks only for the new prompt; run without --rank to make a stage anew"),
    ("ray", "rank", "it is for reading many texts"),
    ("ray", "vote", "it is for reading many texts"),
    ("ray", "check", "it is for reading many texts"),
)


def check_combination(args: argparse.Namespace) -> None:
    """Raises UsageError for flags that do not go together."""

    def given(flag: str) -> bool:
        return getattr(args, flag) not in (None, False, [])

    for flag in ("judge", "base_model", "preferences", "rank", "persona", "prompts", "ray"):
        if getattr(args, flag) is not None and not getattr(args, flag).strip():
            raise UsageError(f"--{flag} is empty: give it a value or leave it out.")
    if args.rank is not None and _is_file(args.rank):
        quoted = shlex.quote(args.rank)
        raise UsageError(f"--rank {quoted} is a file: did you mean --rank - < {quoted}? It reads one prompt a line.")
    modes = [name for name in MODES if given(name)]
    if len(modes) > 1 and modes not in TOGETHER:
        raise UsageError(f"--{modes[0]} and --{modes[1]} do not go together: take one of them.")
    if joined := [model for model in args.models or () if "," in model]:
        spaced = " ".join(" ".join(args.models).replace(",", " ").split())
        raise UsageError(f"--models {joined[0]}: models are given with spaces between them: --models {spaced}")
    apart = list(APART)
    if not given("rank"):
        apart.append(("models", "preferences", "the votes name their models"))
    if not given("preferences"):
        apart.append(("responses", "rank", "the models of a file can't be asked for new answers"))
    for flag, other, why in apart:
        if given(flag) and given(other):
            raise UsageError(f"--{flag} does not go with --{other}: {why}.")
    if args.json and not given("rank"):
        raise UsageError("--json goes with --rank only.")
    if args.skip_bad_rows and not (given("preferences") or given("responses")):
        raise UsageError("--skip_bad_rows goes with --preferences and --responses only.")
    if args.persona == "all" and (given("rank") or given("vote")):
        raise UsageError("--persona all can't be ranked or voted as: name one persona.")
    if args.persona == "all" and (args.prompts or args.responses):
        raise UsageError("--persona all writes prompts for each persona: with --prompts or --responses name one.")
    if args.ground_truth != "round_robin" and args.preferences:
        raise UsageError("--ground_truth does not go with --preferences: people's own votes are the truth.")
    if args.ground_truth != "round_robin" and args.backend == "embedded":
        raise UsageError("--ground_truth listwise and both need a server: the embedded model weighs texts one by one.")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than any name, or with a character that no name has
        return False


def refreshed(stages: Sequence[str] | None) -> list[str]:
    """The stages that ``--refresh`` makes anew, with those that follow."""
    order = list(STAGE_FILES)
    firsts = [0 if stage == "all" else order.index(stage) for stage in stages or ()]
    return order[min(firsts, default=len(order)) :]


# Flags of one call alone; every other one is part of what another command has to be told too: who answers and judges,
# with which limits, what reads the texts, where all of it lies.
THIS_CALL = frozenset({
    "persona", "prompts", "responses", "preferences", "num_prompts", "eval_freq", "incremental", "ground_truth",
    "ablate", "rank", "json", "vote", "check", "refresh", "ray", "log_level",
})  # fmt: skip


def command_like(args: argparse.Namespace, *start: str) -> str:
    """``python main.py`` with the flags ``start``, and those that this call has beyond their defaults."""
    words, usual = ["python", "main.py", *start], parser()
    left = set(THIS_CALL)
    if "--preferences" in start:  # the people judge, on prompts of their own and, unless they rank, on their models
        left |= {"judge"} if "--rank" in start else {"judge", "models"}
    elif args.prompts:
        words += ["--prompts", args.prompts]
    for name, value in vars(args).items():
        if name not in left and value != usual.get_default(name):
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(str(one) for one in values if one is not True)]
    return plain(shlex.join(words))
