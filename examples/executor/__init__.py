"""SciPy and joblib on the workers of a case."""
