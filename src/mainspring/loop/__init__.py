"""The whole circle: which stages a loop has, when it turns again, and who acts on it."""
