"""The zoo's names, for parametrising tests: importing the zoo itself needs ComfyUI."""

NAMES = (
    "sd15",
    "sd15_inpaint",
    "sd15_edit",
    "sd_xs",
    "sd2",
    "sd21_v",
    "sd2_inpaint",
    "sd21_unclip_l",
    "sd21_unclip_h",
    "sd_xs_09",
    "sdxl",
    "sdxl_zero_snr_v",
    "sdxl_inpaint",
    "sdxl_edit",
    "cosxl",
    "playground",
    "ssd_1b",
    "segmind_vega",
    "koala_700m",
    "koala_1b",
    "sd3_clip",
    "sd3_both",
    "sd35_medium",
    "sd35_large",
    "flux_dev",
    "flux_fill",
    "flux_schnell",
    "longcat",
    "chroma",
    "chroma_radiance",
    "flux2",
    "lumina2",
    "z_image",
    "z_image_pixel",
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
    "anima",
    "hidream",
    "ernie_image",
    "pixart_alpha",
    "pixart_sigma",
    "hunyuan_dit",
    "hunyuan_dit1",
    "pixeldit",
)
UNETS = NAMES[: NAMES.index("sd3_clip")]
# Those with the blocks of another one, which differ in what goes in and comes out.
_SAME_BLOCKS = (
    *("sd15_inpaint", "sd15_edit", "sd2", "sd21_v", "sd2_inpaint", "sd21_unclip_l", "sd21_unclip_h"),
    *("sdxl_zero_snr_v", "sdxl_inpaint", "sdxl_edit", "cosxl", "playground"),
    *("sd3_clip", "sd35_large", "flux_fill", "flux_schnell", "longcat", "z_image_pixel"),
    *("pixart_alpha", "hunyuan_dit1"),
)
DIFFERENT = tuple(name for name in NAMES if name not in _SAME_BLOCKS)
# Where ComfyUI's own forward fails on odd latents, and PixArt's on small ones: width and height of the picture.
EVEN = {"kandinsky5": (176, 96), "joyimage": (176, 96), "pixart_alpha": (320, 224), "pixart_sigma": (320, 224)}
# And where cells of 16 or 32 pixels make a latent of 13 x 19.
COARSE = dict.fromkeys(("flux2", "mage_flow", "ideogram4", "lens", "ernie_image"), (304, 208))
SIZES = EVEN | COARSE | {"hunyuan_image": (608, 416)}
