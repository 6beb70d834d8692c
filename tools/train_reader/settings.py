"""What every part of the training agrees on: the vocabulary, the pages' sizes and colours, the model's shape."""

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
# Ids 0 to 255 are the bytes; the specials follow.
END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = range(256, 263)
VOCABULARY = 320

# What stands before the image in every prompt.
PREFIX = [IM_START] + list(b"user\n") + [VISION_START]

# (height, width) of the pages, from easy to hard.
SIZES = [(64, 256), (64, 384), (96, 256), (96, 320), (128, 256), (128, 384), (160, 320), (192, 320)]
COLORS = {
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "red": (205, 25, 30),
    "green": (20, 140, 40),
    "blue": (30, 60, 205),
    "yellow": (240, 215, 20),
    "orange": (245, 130, 15),
    "purple": (130, 30, 150),
    "gray": (125, 125, 125),
    "brown": (120, 70, 30),
}
# Characters of odd strings; those that look alike in some font (l, I, O) are left out.
ODD = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789-#%&+?!"

# The text model.
HIDDEN, HEADS, KV_HEADS, HEAD, FFN, LAYERS = 192, 8, 4, 32, 576, 8
ROPE_THETA, MROPE_SECTION = 500000.0, (6, 5, 5)

# The vision tower.
VISION_HIDDEN, VISION_HEADS, VISION_FFN, VISION_LAYERS = 128, 4, 512, 6
DEEPSTACK_AFTER = (1, 3)
POSITION_SIDE = 16  # of the grid of learned positions
PATCH, MERGE = 16, 2


def prompt_tail(question):
    """The ids between the image and the answer."""
    return [VISION_END] + list(question.encode()) + [IM_END] + list(b"\n") + [IM_START] + list(b"assistant\n")


def config():
    """The model's shape as transformers describes it."""
    from transformers import Qwen3VLConfig

    rope = {
        "rope_type": "default",
        "rope_theta": ROPE_THETA,
        "mrope_section": list(MROPE_SECTION),
        "mrope_interleaved": True,
    }
    text = dict(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        max_position_embeddings=4096,
        rope_parameters=rope,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    )
    vision = dict(
        depth=VISION_LAYERS,
        hidden_size=VISION_HIDDEN,
        intermediate_size=VISION_FFN,
        num_heads=VISION_HEADS,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        temporal_patch_size=2,
        out_hidden_size=HIDDEN,
        num_position_embeddings=POSITION_SIDE * POSITION_SIDE,
        deepstack_visual_indexes=list(DEEPSTACK_AFTER),
    )
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE_PAD,
        video_token_id=VIDEO_PAD,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )
