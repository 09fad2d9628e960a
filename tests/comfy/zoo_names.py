"""The zoo's names, for parametrising tests: importing the zoo itself needs ComfyUI."""

NAMES = ("sd3_clip", "sd3_both", "sd35_medium", "sd35_large", "flux_dev", "flux_schnell")
