"""Which origin serves which stream: model, choice, health and the balancers themselves."""
