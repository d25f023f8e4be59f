"""One small interface to a language model, and who implements it.

``interface``: Request, Completion, Choice, Decision, LeftOut, LanguageModel. ``ollama.OllamaModel`` asks servers: one
is an ``ollama_server.OllamaServer``, several work side by side (``ollama_hosts``), ``addresses`` reads their names and
those of models, ``thinking`` knows models that think. ``openai.OpenAIModel`` asks a server of another kind,
``embedded.EmbeddedModel`` computes in this process. What servers share: ``calls`` (side by side, with a time limit),
``retry`` (asking again), ``replies`` (what is made of a reply).
"""
