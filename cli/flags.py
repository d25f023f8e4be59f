"""The command line: every flag, what goes together, and the parameters that come of it."""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path

import config
from core.errors import UsageError

ABOUT = """Which of my models is best for me, and for this prompt?

python main.py --persona coder                        the experiment, once
python main.py --write_persona me.toml                an example of a person, to edit
python main.py --persona me.toml --prompts mine.txt   for that person, on your own prompts
python main.py --persona coder --incremental          with learning curves of both systems
python main.py --check                                what is there, what is missing, what a run will cost
"""
# --quick: the fewest prompts that can be split into folds, and so few models that a processor answers within minutes.
QUICK_PROMPTS, QUICK_MODELS = 5, 3
# What --refresh makes anew, in the order of the stages, and the files of each.
STAGE_FILES = {
    "prompts": config.PROMPTS_FILE,
    "responses": config.RESPONSES_FILE,
    "preferences": config.PREFERENCES_FILE,
    "ground_truth": config.GROUND_TRUTH_FILE,
    "features": config.FEATURES_FILES,
}
QUICK_NOTE = (
    f"A quick run: with {QUICK_PROMPTS} prompts only a very large lead of a model can be told from chance, and "
    "which method ranks better can't be decided. What was learned before stays as it is; a run without --quick takes "
    "these answers over."
)
# Parameters that have a flag of another or the same name; num_predict has two defaults and is set apart.
PARAMETERS = {
    "num_prompts": "num_prompts", "evaluation_frequency": "eval_freq", "lambda_reg": "lambda_reg",
    "batch_size": "batch_size", "random_seed": "seed", "folds": "folds", "incremental": "incremental",
    "ground_truth": "ground_truth", "concurrency": "concurrency", "timeout": "timeout",
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
    who = (
        f"whose preferences: {', '.join(config.PERSONAS)}, all, or a file such as me.toml that describes a person; "
        f"with --rank also a run on votes, by its name (default: {config.DEFAULT_PERSONA})"
    )
    flag("persona", who, metavar="NAME")
    flag("write_persona", "write an example of such a file, to edit", type=_file, metavar="FILE")
    flag("prompts", "own prompts instead of generated ones: .txt (one a line), .jsonl or .csv", metavar="FILE")
    given = "own answers instead of asking: JSON Lines, JSON or CSV with prompt, model, response (or alpaca_eval's)"
    flag("responses", given, nargs="+", metavar="FILE")
    many = f"prompts generated per persona, or the first of --prompts, at least 5 (default: {d.num_prompts})"
    flag("num_prompts", many, type=int)
    flag("eval_freq", "evaluate every N preferences", type=int, default=d.evaluation_frequency)
    flag("lambda_reg", "weight of the rank regularization; 0 means none", type=float, default=d.lambda_reg)
    flag("incremental", "retrain System B at every evaluation point on the preferences so far", action="store_true")
    servers = "auto takes Ollama where it answers; openai: any server with the OpenAI API, at OPENAI_BASE_URL"
    flag("backend", servers, choices=["auto", "ollama", "openai", "embedded"], default="auto")
    everyone = "a subset of the contestants, or other models of the server (default: all configured)"
    flag("models", everyone, nargs="+", metavar="TAG")
    flag("judge", f"the model that writes prompts and judges (default: {config.DEFAULT_JUDGE})", metavar="TAG")
    flag("base_model", "hub id or folder of the reward base", default="auto")
    truths = ["round_robin", "listwise", "both"]
    flag("ground_truth", "how prompts are truly ranked", choices=truths, default="round_robin")
    votes = (
        "real human votes instead of generated data: JSON Lines, JSON, CSV, Parquet, a hub id, or an export (README)"
    )
    flag("preferences", votes, metavar="FILE")
    flag("skip_bad_rows", "with --preferences: leave wrong rows out, counted", action="store_true")
    rank = "rank the contestants for this prompt with what was learned; - reads prompts from stdin"
    flag("rank", rank, metavar="PROMPT")
    flag("json", "with --rank: one JSON line a prompt", action="store_true")
    flag("vote", "give your own preferences in the terminal", action="store_true")
    flag("ablate", "the table of baselines and ablations", action="store_true")
    flag("device", "where the reward base runs and heads are trained", choices=["auto", "cpu", "cuda"], default="auto")
    many = (
        "texts are read and people's heads trained on Ray: local (this machine's cores or GPUs) or a cluster that runs"
    )
    flag("ray", f"{many} (auto finds it, or RAY_ADDRESS names it; docs/scale.md)", metavar="local|auto|ADDRESS")
    flag("seed", "seeds everything that draws", type=int, default=d.random_seed)
    flag("cache_dir", "where answers are kept", type=_folder, default=Path("cache"))
    flag("results_dir", "where results are written", type=_folder, default=Path("results"))
    flag("concurrency", "requests in flight to a server", type=int, default=d.concurrency)
    waits = "seconds for one answer; a request waits so long for each one in flight at its server"
    flag("timeout", waits, type=float, default=d.timeout)
    limits = f"tokens for one answer (default: {d.num_predict}; embedded: {config.EMBEDDED_NUM_PREDICT})"
    flag("num_predict", limits, type=int)
    flag("folds", "parts of the cross-validation by prompt", type=int, default=d.folds)
    flag("batch_size", "preferences a training step", type=int, default=d.batch_size)
    few = f"the first five minutes: {QUICK_PROMPTS} prompts and {QUICK_MODELS} models, or those given"
    flag("quick", few, action="store_true")
    look = "look only: what is there, what is missing, what the run will cost; with --preferences: what is read of them"
    flag("check", look, action="store_true")
    anew = f"make this stage and what follows anew: {', '.join(STAGE_FILES)} or all"
    flag("refresh", anew, nargs="+", choices=[*STAGE_FILES, "all"], metavar="STAGE")
    flag("log_level", "debug shows each call", choices=["debug", "info", "warning", "error"], default="info")
    p.set_defaults(own=None)  # what cli.own reads of the files that are named
    return p


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of a command line; one that is none ends the program, with a guess at what was meant."""
    p = parser()
    args, rest = p.parse_known_args(argv)
    if rest:
        known = [name for action in p._actions for name in action.option_strings]
        flag = rest[0].partition("=")[0]
        near = difflib.get_close_matches(flag.replace("-", "_").replace("__", "--", 1), known, n=1)
        p.error(f"unrecognized arguments: {' '.join(rest)}" + (f" (did you mean {near[0]}?)" if near else ""))
    if args.quick and args.num_prompts is None:
        args.num_prompts = QUICK_PROMPTS  # of own prompts the first ones
    return args


def _file(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("a file's name must not be empty")
    return Path(text)


def _folder(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("a folder's name must not be empty")
    return Path(text)


def configure(args: argparse.Namespace, backend: str) -> config.ExperimentConfig:
    """The run's parameters. Raises UsageError naming the flag of an impossible value."""
    values = {key: value for key, flag in PARAMETERS.items() if (value := getattr(args, flag)) is not None}
    if args.own is not None and args.own.prompts:
        values["num_prompts"] = len(args.own.prompts)
    if args.preferences:  # human votes bring their own prompts
        values["num_prompts"] = max(values.get("num_prompts", config.EXPERIMENT_CONFIG.num_prompts), args.folds)
    usual = config.EMBEDDED_NUM_PREDICT if backend == "embedded" else config.EXPERIMENT_CONFIG.num_predict
    values["num_predict"] = usual if args.num_predict is None else args.num_predict
    try:
        return config.ExperimentConfig.from_dict(values)
    except ValueError as error:
        flag = PARAMETERS.get(str(error).split(" ")[0])  # its message begins with the parameter's name
        raise UsageError(f"--{flag}: {error}" if flag else str(error)) from None


def check_combination(args: argparse.Namespace) -> None:
    """Raises UsageError for flags that do not go together."""
    for flag in ("judge", "base_model", "preferences", "rank", "persona", "prompts", "ray"):
        if getattr(args, flag) is not None and not getattr(args, flag).strip():
            raise UsageError(f"--{flag} is empty: give it a value or leave it out.")
    if args.rank is not None and _is_file(args.rank):
        quoted = shlex.quote(args.rank)
        raise UsageError(f"--rank {quoted} is a file: did you mean --rank - < {quoted}? It reads one prompt a line.")
    modes = [
        name
        for name in ("preferences", "rank", "vote", "check", "write_persona")
        if getattr(args, name) not in (None, False)
    ]
    if len(modes) > 1 and modes != ["preferences", "check"]:  # which shows what was read of the votes
        raise UsageError(f"--{modes[0]} and --{modes[1]} do not go together: take one of them.")
    for flag in ("models", "judge", "ablate") if args.preferences else ():
        if getattr(args, flag):
            raise UsageError(f"--{flag} does not go with --preferences: the votes name their models and judges.")
    if joined := [model for model in args.models or () if "," in model]:
        spaced = " ".join(" ".join(args.models).replace(",", " ").split())
        raise UsageError(f"--models {joined[0]}: models are given with spaces between them: --models {spaced}")
    if args.preferences and args.persona is not None:
        raise UsageError("--persona does not go with --preferences: the people who voted are whose preferences count.")
    for flag, mode, why in (
        ("prompts", "preferences", "the votes bring their own prompts"),
        ("prompts", "rank", "it ranks for the prompt it is given; --rank - reads several, one a line"),
        ("responses", "rank", "the models of a file can't be asked for new answers"),
    ):
        if getattr(args, flag) and getattr(args, mode) is not None:
            raise UsageError(f"--{flag} does not go with --{mode}: {why}.")
    if args.persona == "all" and (args.prompts or args.responses):
        raise UsageError(
            "--persona all writes prompts for each persona: with --prompts or --responses name one persona."
        )
    if args.preferences and args.ground_truth != "round_robin":
        raise UsageError("--ground_truth does not go with --preferences: people's own votes are the truth.")
    if args.persona == "all" and (args.rank is not None or args.vote):
        raise UsageError("--persona all can't be ranked or voted as: name one persona.")
    for mode in ("rank", "vote", "check", "write_persona") if args.ray else ():
        if mode in modes:
            raise UsageError(f"--ray does not go with --{mode}: it is for reading many texts and training many people.")
    for flag in ("preferences", "rank", "vote") if args.quick else ():
        if getattr(args, flag) not in (None, False):
            raise UsageError(f"--quick and --{flag} do not go together: take one of them.")
    if args.quick and args.num_prompts != QUICK_PROMPTS:
        raise UsageError(f"--quick has {QUICK_PROMPTS} prompts: take it or --num_prompts {args.num_prompts}.")
    for needed, flag in (("rank", "json"), ("preferences", "skip_bad_rows")):
        if getattr(args, flag) and getattr(args, needed) is None:
            raise UsageError(f"--{flag} goes with --{needed} only.")
    if args.backend == "embedded" and args.ground_truth != "round_robin":
        raise UsageError("--ground_truth listwise and both need a server: the embedded model weighs texts one by one.")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than any name, or with a character that no name has
        return False


def contestants(args: argparse.Namespace, usual: Sequence[str]) -> list[str]:
    """The names asked for, else the ``usual`` ones or, with --quick, the first of them."""
    return list(args.models or (usual[:QUICK_MODELS] if args.quick else usual))


def personas(args: argparse.Namespace) -> dict[str, config.Persona]:
    """The personas of this run, by name."""
    if args.own is not None:
        return dict(args.own.personas)
    name = args.persona or config.DEFAULT_PERSONA
    return dict(config.PERSONAS) if name == "all" else {name: config.PERSONAS[name]}


def refreshed(stages: Sequence[str]) -> list[str]:
    """The stages that ``--refresh`` makes anew, with those that follow."""
    order = list(STAGE_FILES)
    firsts = [0 if stage == "all" else order.index(stage) for stage in stages]
    return order[min(firsts, default=len(order)) :]


def command_like(start: Sequence[str], args: argparse.Namespace, names: Sequence[str]) -> str:
    """``python main.py`` with the flags ``start``, and those of ``names`` that this call has beyond their defaults."""
    usual = {
        "backend": "auto",
        "base_model": "auto",
        "cache_dir": Path("cache"),
        "results_dir": Path("results"),
        "models": None,
        "judge": None,
    }
    words = ["python", "main.py", *start]
    for name in names:
        value = getattr(args, name)
        if value != usual[name]:
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join(words)
