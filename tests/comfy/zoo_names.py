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
    "chroma_radiance",
    "flux2",
    "lumina2",
    "z_image",
    "qwen_image",
    "mage_flow",
    "auraflow",
    "omnigen2",
    "boogu",
    "krea2",
    "kandinsky5",
    "hunyuan_image",
    "ideogram4",
    "lens",
    "joyimage",
    "cosmos_predict2",
)
EVEN_ONLY = ("kandinsky5", "joyimage")  # ComfyUI's own forward fails on odd latents
