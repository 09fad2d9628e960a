"""What to do and when: a plan, steps in every unit, each method as data, settings per model, preset files."""
