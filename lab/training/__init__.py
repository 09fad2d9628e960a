"""What makes the demo models and the detectors again; its files are run from this folder and import each other flat."""
