"""How a model is trained: the keys of `train.…` and what they may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

MOST = 10**9
Count = Annotated[StrictInt, Field(ge=1, le=MOST)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Decay = Annotated[float, Field(ge=0, lt=1, strict=True)]


class Recipe(BaseModel):
    """Every key of a training recipe; `train.lr = 1e-4` sets `lr`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    data: str = Field(
        "stdlib", description='`stdlib`, a hub id with its config ("owner/set:config"), or a folder or file ("./texts")'
    )
    streaming: StrictBool = Field(
        False, description="read a hub set while it is tokenised, instead of keeping a copy of it first"
    )
    tokenizer: str = Field(
        "builtin", description="`base` (the base model's own), `builtin` (a BPE of Python's library), or a path"
    )
    scale: str = Field(
        "auto",
        pattern=r"^(auto|full|1/[1-9][0-9]{0,3})$",
        description='`auto`, `full`, or a factor on the width such as "1/8"',
    )
    block_size: Count = Field(128, description="tokens a sequence")
    batch_size: Count = Field(8, description="sequences a micro-batch")
    accumulation: Count = Field(1, description="micro-batches a step")
    steps: Count | None = Field(None, description="optimizer steps; `null` where `epochs` says how long")
    epochs: Annotated[Positive, Field(le=MOST)] | None = Field(
        None, description="passes over the training data, where `steps` is null"
    )
    lr: Positive = Field(3e-3, description="peak learning rate of AdamW")
    beta1: Decay = Field(0.9, description="AdamW's decay of the mean of gradients")
    beta2: Decay = Field(0.95, description="AdamW's decay of the mean of their squares")
    eps: Positive = Field(1e-8, description="AdamW's epsilon")
    weight_decay: NotNegative = Field(0.0, description="on matrices; biases and norms have none")
    clip: NotNegative = Field(1.0, description="largest norm of the gradient; 0 doesn't clip")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="of the learning rate after warm-up"
    )
    warmup_steps: Annotated[StrictInt, Field(ge=0, le=MOST)] = Field(
        0, description="steps from 0 to the peak learning rate"
    )
    precision: Literal["fp32", "bf16_autocast", "bf16"] = Field(
        "fp32", description="`bf16_autocast` keeps fp32 weights; `bf16` has bf16 weights too, as the log did"
    )
    weights: Literal["scratch", "pretrained"] = Field(
        "scratch", description="`pretrained` starts from the base model's checkpoint, at full scale only"
    )
    init: Literal["normal", "product", "svd"] = Field(
        "normal",
        description="how a low-rank pair starts: both factors, or their product, at the model's standard deviation; "
        "or as the truncated SVD of the matrix it replaces",
    )
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] = Field(0, description="of initial weights and of the data order")
    packing: Literal["blocks", "documents"] = Field(
        "blocks", description="`documents` keeps attention inside each document of a block; `blocks` doesn't"
    )
    gradient_checkpointing: StrictBool = Field(False, description="compute activations again instead of keeping them")
    compile: StrictBool = Field(False, description="compile the layers with torch.compile")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="several processes: each has the whole model, or a share of every layer"
    )
    save_every: Count | None = Field(None, description="steps between checkpoints; `null`: at each evaluation")
    keep: Count = Field(2, description="checkpoints that are kept")
    eval_every: Count | None = Field(None, description="steps between evaluations; `null`: after each epoch")
    eval_blocks: Count | None = Field(None, description="validation sequences used, spread evenly; `null`: all")


def recipe_keys() -> tuple[str, ...]:
    return tuple(Recipe.model_fields)
