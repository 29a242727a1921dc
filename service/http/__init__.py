"""The HTTP layer: routes, uploads, content negotiation, problem documents, API keys."""
