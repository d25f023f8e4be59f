"""Which of my models is best for me, and for this prompt?

python main.py --persona coder                    the experiment, once
python main.py --persona coder --incremental      with learning curves of both systems
python main.py --check                            what is there, what is missing, what a run will cost
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config
from core.errors import SuiteError, UsageError

if TYPE_CHECKING:
    from cli.preflight import Backend
    from stages.tasks import Job

DEFAULTS = config.EXPERIMENT_CONFIG
STAGES = ("prompts", "responses", "preferences", "ground_truth", "features")


def parser() -> argparse.ArgumentParser:
    """Every flag, with its default in --help."""
    p = argparse.ArgumentParser(
        prog="main.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 done · 2 bad usage · 3 something needed is missing · 130 interrupted",
        allow_abbrev=False,
    )

    def flag(name: str, about: str, **kind: object) -> None:
        default = kind.get("default")
        shown = f" (default: {default})" if default not in (None, False) else ""
        p.add_argument(f"--{name}", help=about.replace("%", "%%") + shown, **kind)  # type: ignore[arg-type]

    d = DEFAULTS
    flag("persona", "whose preferences", choices=[*config.PERSONAS, "all"], default="coder")
    flag("num_prompts", "prompts generated per persona, at least 5", type=int, default=d.num_prompts)
    flag("eval_freq", "evaluate every N preferences", type=int, default=d.evaluation_frequency)
    flag("lambda_reg", "weight of the rank regularization; 0 means none", type=float, default=d.lambda_reg)
    flag("incremental", "retrain System B at every evaluation point on the preferences so far", action="store_true")
    flag("backend", "auto takes Ollama where it answers", choices=["auto", "ollama", "embedded"], default="auto")
    everyone = "a subset of the contestants, or other Ollama tags (default: all configured)"
    flag("models", everyone, nargs="+", metavar="TAG")
    flag("judge", f"the model that writes prompts and judges (default: {config.DEFAULT_JUDGE})", metavar="TAG")
    flag("base_model", "hub id or folder of the reward base", default="auto")
    truths = ["round_robin", "listwise", "both"]
    flag("ground_truth", "how test prompts are truly ranked", choices=truths, default="round_robin")
    flag(
        "preferences",
        "real human votes instead of generated data: JSON Lines, CSV, Parquet or a hub id",
        metavar="FILE",
    )
    flag("skip_bad_rows", "with --preferences: leave wrong rows out, counted", action="store_true")
    flag(
        "rank",
        "rank the contestants for this prompt with what was learned; - reads prompts from stdin",
        metavar="PROMPT",
    )
    flag("json", "with --rank: one JSON line a prompt", action="store_true")
    flag("vote", "give your own preferences in the terminal", action="store_true")
    flag("ablate", "the table of baselines and ablations", action="store_true")
    flag("device", "where the reward base runs", choices=["auto", "cpu", "cuda"], default="auto")
    flag("seed", "seeds everything that draws", type=int, default=d.random_seed)
    flag("cache_dir", "where answers are kept", type=_folder, default=Path("cache"))
    flag("results_dir", "where results are written", type=_folder, default=Path("results"))
    flag("concurrency", "requests in flight to Ollama", type=int, default=d.concurrency)
    flag("timeout", "seconds for one request to Ollama", type=float, default=d.timeout)
    limits = f"tokens for one answer (default: {d.num_predict}; embedded: {config.EMBEDDED_NUM_PREDICT})"
    flag("num_predict", limits, type=int)
    flag("folds", "parts of the cross-validation by prompt", type=int, default=d.folds)
    flag("batch_size", "preferences a training step", type=int, default=d.batch_size)
    flag("check", "look only: what is there, what is missing, what the run will cost", action="store_true")
    anew = f"make this stage and what follows anew: {', '.join(STAGES)} or all"
    flag("refresh", anew, nargs="+", choices=[*STAGES, "all"], metavar="STAGE")
    flag("log_level", "debug shows each call", choices=["debug", "info", "warning", "error"], default="info")
    return p


def _folder(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("a folder's name must not be empty")
    return Path(text)


def configure(args: argparse.Namespace, backend: str) -> config.ExperimentConfig:
    """The run's parameters. Raises UsageError naming the flag of an impossible value."""
    default_tokens = config.EMBEDDED_NUM_PREDICT if backend == "embedded" else DEFAULTS.num_predict
    flags = {
        "num_prompts": "num_prompts", "evaluation_frequency": "eval_freq", "lambda_reg": "lambda_reg",
        "batch_size": "batch_size", "random_seed": "seed", "folds": "folds", "incremental": "incremental",
        "ground_truth": "ground_truth", "concurrency": "concurrency", "timeout": "timeout",
    }  # fmt: skip
    values = {key: getattr(args, flag) for key, flag in flags.items()}
    if args.preferences:  # human votes bring their own prompts
        values["num_prompts"] = max(args.num_prompts, args.folds)
    values["num_predict"] = default_tokens if args.num_predict is None else args.num_predict
    try:
        return config.ExperimentConfig.from_dict(values)
    except ValueError as error:
        message = str(error)
        for key, flag in flags.items():
            if message.startswith(key + " "):
                message = f"--{flag}: {message}"
        raise UsageError(message) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    args = parser().parse_args(argv)
    # the heads' matrices are small: threads of the matrix library cost them more than they give
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    stream = sys.stderr if args.json else sys.stdout  # with --json nothing else may stand on standard output
    import logging  # after the flags: --help answers at once

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=stream, force=True)
    logging.getLogger("ranking").setLevel(args.log_level.upper())
    try:
        status = run(args, "python main.py " + " ".join(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except SuiteError as error:
        sys.stdout.flush()
        print(f"\n{error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        kept = f"Every answer so far is kept in {args.cache_dir}/; the same command goes on."
        print(f"\nInterrupted. {kept}", file=sys.stderr)
        return 130


def run(args: argparse.Namespace, command: str) -> int:
    """Choose who is asked, look whether all is there, and do what was asked for."""
    params = configure(args, "ollama")  # bad usage is said before any server is looked for
    check_combination(args)
    if args.preferences:
        return run_votes(args, params, command)
    from cli import preflight

    backend = preflight.choose_backend(args, params)
    params = configure(args, backend.name)
    from cli import checks

    if args.check:
        return checks.check(args, backend, params)
    checks.require(args, backend, params)
    from core.store import lock

    with lock(args.cache_dir):
        backend = preflight.begin(args, backend, params)
        if args.rank is not None:
            from cli import rank as answer

            return answer.rank(args, preflight.job(args, backend, params, args.persona), backend)
        if args.vote:
            from cli import rank as answer

            return answer.vote(args, preflight.job(args, backend, params, args.persona))
        return run_personas(args, backend, params, command)


def check_combination(args: argparse.Namespace) -> None:
    """Raises UsageError for flags that do not go together."""
    for flag in ("judge", "base_model", "preferences", "rank"):
        if getattr(args, flag) is not None and not getattr(args, flag).strip():
            raise UsageError(f"--{flag} is empty: give it a value or leave it out.")
    modes = [name for name in ("preferences", "rank", "vote", "check") if getattr(args, name) not in (None, False)]
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} do not go together: take one of them.")
    if args.persona == "all" and (args.rank is not None or args.vote):
        raise UsageError("--persona all can't be ranked or voted as: name one persona.")
    for needed, flag in (("rank", "json"), ("preferences", "skip_bad_rows")):
        if getattr(args, flag) and getattr(args, needed) is None:
            raise UsageError(f"--{flag} goes with --{needed} only.")
    for flag in ("models", "judge", "ablate") if args.preferences else ():
        if getattr(args, flag):
            raise UsageError(f"--{flag} does not go with --preferences: the votes name their models and judges.")
    if args.preferences and args.ground_truth != "round_robin":
        raise UsageError("--ground_truth does not go with --preferences: people's own votes are the truth.")
    if args.backend == "embedded" and args.ground_truth != "round_robin":
        raise UsageError("--ground_truth listwise and both need Ollama: the embedded model weighs texts one by one.")


def run_votes(args: argparse.Namespace, params: config.ExperimentConfig, command: str) -> int:
    """The experiment on people's votes."""
    from cli import preflight
    from core.findings import Run
    from core.store import lock
    from people import run as people

    with lock(args.cache_dir):
        base, notes = preflight.choose_base(args, args.backend)
        people.run(
            args.preferences,
            params=params,
            run=Run(base, args.device, "", command, args.cache_dir, args.results_dir, notes),
            device=preflight.device(args),
            skip_bad_rows=args.skip_bad_rows,
            refresh=bool(args.refresh),
        )
    return 0


def run_personas(args: argparse.Namespace, backend: Backend, params: config.ExperimentConfig, command: str) -> int:
    """The experiment for each persona; with ``--persona all`` also what they have in common."""
    from cli import preflight

    every = {
        name: run_persona(args, preflight.job(args, backend, params, name), backend, command) for name in personas(args)
    }
    if args.persona == "all":
        from cli import compare as comparison

        comparison.run(args, backend, params, every)
    return 0


def run_persona(args: argparse.Namespace, job: Job, backend: Backend, command: str) -> dict[str, Any]:
    """The five steps: data, features, both systems, evaluation, files. Returns the results."""
    import experiment
    from cli import preflight
    from core.findings import Run
    from report import console as report
    from report import files as result_files

    report.print_header(job.name, backend.label)
    base, notes = preflight.choose_base(args, backend.name)
    for note in (*backend.notes, *notes):
        print(f"Note: {note}")
    said = (*backend.notes, *notes)
    run = Run(base, args.device, backend.label, command, args.cache_dir, args.results_dir, said, args.ablate)
    results, fitted = experiment.run_persona(job, run, preflight.device(args), backend.ratings)
    report.print_points(results)
    report.print_final(results)
    report.print_ablation(results)
    paths = result_files.write_results(results, args.results_dir)
    fitted.elo.save(args.cache_dir / config.ELO_STATE_FILE.format(name=job.name))
    fitted.reward.save(args.cache_dir / config.REWARD_HEAD_FILE.format(name=job.name))
    print("\nWritten: " + ", ".join(str(path) for path in paths))
    return results


def personas(args: argparse.Namespace) -> list[str]:
    """The personas of this run."""
    return list(config.PERSONAS) if args.persona == "all" else [args.persona]


if __name__ == "__main__":
    sys.exit(main())
