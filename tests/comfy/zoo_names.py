"""The zoo's names, for parametrising tests: importing the zoo itself needs ComfyUI."""

NAMES = (
    "sd3_clip",
    "sd3_both",
    "sd35_medium",
    "sd35_large",
    "flux_dev",
    "flux_schnell",
    "longcat",
    "chroma",
    "flux2",
    "lumina2",
    "z_image",
    "qwen_image",
)
