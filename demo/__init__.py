"""The whole project in miniature: what ``make demo`` runs on a CPU."""
