"""A model whose weights have no derivative."""

import torch


def foreign(comfy, name="sd3_both"):
    """SD 3 with one layer as a GGUF loader makes them: bytes that are no numbers, and no derivative."""
    import comfy.ops as ops

    class Linear(ops.manual_cast.Linear):
        def forward_comfy_cast_weights(self, x):
            weight = self.weight.view(torch.float32).reshape(self.out_features, self.in_features)
            return torch.nn.functional.linear(x, weight, self.bias)

    model = comfy.toy.build_transformer(name)
    with torch.inference_mode():
        layer = model.model.diffusion_model.joint_blocks[0].x_block.attn.qkv
        layer.__class__ = Linear
        layer.weight = torch.nn.Parameter(layer.weight.view(torch.uint8), requires_grad=False)
        layer.comfy_cast_weights = True
    return model
