"""The ideas. Imports go one way: host, pictures, selection, methods, interventions, losses, attention, text."""
