"""Random-weight models of each family, in sizes for a test and in published shapes."""

from dataclasses import dataclass

# The tokenizer of deploy/models/reader: bytes, then a few special tokens.
END, IMAGE, VIDEO, VISION_START, VISION_END = 258, 261, 262, 259, 260


@dataclass(frozen=True)
class Shape:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    theta: float = 1e6


# Every family small enough to be computed in f32 in a second, and cut into four.
SMALL = Shape(256, 512, 4, 8, 4, 32, 512)
LARGE = {
    "llama": Shape(4096, 14336, 32, 32, 8, 128, 128256, 5e5),
    "qwen3": Shape(4096, 12288, 36, 32, 8, 128, 151936),
    "qwen2": Shape(3584, 18944, 28, 28, 4, 128, 152064),
    "qwen3_vl": Shape(2560, 9728, 36, 32, 8, 128, 151936, 5e6),
}
FAMILIES = tuple(LARGE)


def text_settings(shape):
    return dict(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head,
        max_position_embeddings=16384,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        eos_token_id=END,
        pad_token_id=None,
        bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
    )


def config_of(family, large):
    """The transformers configuration of one model."""
    import transformers

    shape = LARGE[family] if large else SMALL
    text = text_settings(shape)
    if family == "llama":
        return transformers.LlamaConfig(**text)
    if family == "qwen3":
        return transformers.Qwen3Config(**text)
    if family == "qwen2":
        return transformers.Qwen2Config(**text)
    third = shape.head // 2 // 3
    text["rope_parameters"] |= {
        "mrope_section": [shape.head // 2 - 2 * third, third, third],
        "mrope_interleaved": True,
    }
    vision = dict(
        depth=24 if large else 4,
        hidden_size=1024 if large else 128,
        intermediate_size=4096 if large else 256,
        num_heads=16 if large else 4,
        patch_size=16,
        spatial_merge_size=2,
        temporal_patch_size=2,
        out_hidden_size=shape.hidden,
        num_position_embeddings=2304 if large else 256,
        deepstack_visual_indexes=[5, 11, 17] if large else [1, 2],
    )
    return transformers.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=False,
    )
