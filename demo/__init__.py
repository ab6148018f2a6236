"""The miniature of the whole project that ``make demo`` runs on a CPU."""
