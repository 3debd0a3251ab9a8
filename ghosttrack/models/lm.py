"""A frozen causal language model: residual streams, logits and what links the two."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models.changes import Change, ChangeKind
from ghosttrack.models.parts import FinalNorm, final_norm, find_parts


class _DeepestBlockReachedError(Exception):
    """Ends a forward pass whose remaining blocks nobody asked for."""


class LM:
    """A language model that only answers; nothing here changes it.

    Layer *l* means the output of block *l*. Rows may be padded on either side: tokens are moved to
    the front before the pass and back after it, so a causal model never sees the padding, needs no
    attention mask and gives each row the numbers that it would have alone.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prepend_bos: bool,
        identity: dict[str, str],
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: Set to evaluation and frozen here.
            tokenizer: Its tokenizer.
            prepend_bos: Start every text with the BOS token, or EOS where there is none.
            identity: What determines the model's answers (see `model_identity`).

        Raises:
            ConfigError: No BOS or EOS token to prepend, or the model's parts are not known.
        """
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self.parts = find_parts(model)
        self.n_layers = len(self.parts.blocks)
        self.d_vocab, self.d_model = self.parts.head.weight.shape
        settings = model.config.get_text_config()
        self.n_ctx: int = getattr(settings, "max_position_embeddings", None) or 2**31
        self.device: torch.device = self.parts.embed.weight.device
        self.prefix_ids = _prefix_ids(tokenizer) if prepend_bos else []
        self.identity = identity

    def encode(self, text: str, *, prefix: bool = True) -> list[int]:
        """Turn text into token ids; `prefix` puts `prefix_ids` before them."""
        ids = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return [*self.prefix_ids, *ids] if prefix else ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids as `encode` does, together: many times faster."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [[*self.prefix_ids, *ids] for ids in found["input_ids"]]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn token ids into text, special tokens included."""
        text = self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    @torch.no_grad()
    def residuals(
        self,
        ids: Int[Tensor, "batch pos"],
        mask: Bool[Tensor, "batch pos"],
        layers: Sequence[int],
        *,
        change: Change | None = None,
        marked: Bool[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "layer batch pos d_model"]:
        """Read the residual stream after the given blocks; the pass ends at the deepest.

        Args:
            ids: Token ids; any valid id where `mask` is False.
            mask: True where there is a token. Where it is False the result is arbitrary.
            layers: Block indices from 0; the result follows their order.
            change: Done to the stream on its way.
            marked: Where the change applies, if it is about positions.
        """
        order = _tokens_first(mask)
        if order is None:
            return self._changed(ids, layers, change, marked)
        marked = None if marked is None else marked.gather(1, order)
        resid = self._changed(ids.gather(1, order), layers, change, marked)
        back = order.to(self.device).argsort(dim=1)[None, :, :, None]
        return resid.gather(2, back.expand_as(resid))

    def logits(
        self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """Run one full pass; positions outside the mask get arbitrary numbers."""
        return self.unembed(self.residuals(ids, mask, [self.n_layers - 1])[0])

    @torch.no_grad()
    def resume(
        self,
        resid: Float[Tensor, "batch pos d_model"],
        mask: Bool[Tensor, "batch pos"],
        layer: int,
        until: int | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """Run the blocks after `layer` as if its output had been `resid`.

        Args:
            resid: On the model's device; arbitrary where `mask` is False.
            mask: True where there is a token.
            layer: Block index; neither it nor a block before it runs.
            until: The block at which the pass ends; None is the last.

        Returns:
            The residual stream after that block.
        """
        order = _tokens_first(mask)
        until = self.n_layers - 1 if until is None else until
        if layer == until:
            return resid
        if order is not None:
            order = order.to(self.device)[:, :, None].expand_as(resid)
            resid = resid.gather(1, order)
        answer = (resid,) if self._blocks_answer_tuples else resid
        with _answering(self.parts.blocks[: layer + 1], answer):
            last = self._read(resid, [until])[0]
        return last if order is None else last.gather(1, order.argsort(dim=1))

    @torch.no_grad()
    def advance(
        self, ids: Int[Tensor, "batch pos"], cache: DynamicCache
    ) -> Float[Tensor, "batch d_vocab"]:
        """Append unpadded tokens to a key-value cache; return the logits of the next token."""
        output = self.parts.trunk(
            inputs_embeds=self._embed(ids, None), past_key_values=cache, use_cache=True
        )
        return self._cap(self.parts.head(output.last_hidden_state[:, -1]))

    def keep_rows(self, cache: DynamicCache, rows: Int[Tensor, " row"]) -> None:
        """Keep these rows of a cache; the states of linear attention are rows of it as well."""
        cache.reorder_cache(rows.to(self.device))  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def unembed(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Apply the final norm and the head: the logits if the model ended here (logit lens)."""
        resid = resid.to(self.device, self.parts.head.weight.dtype)
        return self._cap(self.parts.head(self.parts.norm(resid)))

    @torch.no_grad()
    def readout(self, token_ids: Int[Tensor, "..."]) -> Float[Tensor, "... d_model"]:
        """Return the directions whose dot product with a residual makes tokens' logits.

        `logit[y] = readout(y) . resid / final_scale(resid) + const(y)`: rows of W_U times the final
        norm's gain, minus their mean where the norm centres. `const` is the norm's bias read by W_U
        plus the head's own bias. Exact unless the model caps its logits.
        """
        rows = self.parts.head.weight[token_ids.to(self.device)].float() * self.norm.gain
        return rows - rows.mean(-1, keepdim=True) if self.norm.is_centred else rows

    def final_scale(self, resid: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
        """Return the final norm's divisor for a residual, at any layer."""
        return self.norm.scale(resid.to(self.device))

    @cached_property
    def norm(self) -> FinalNorm:
        """Gain, centring and epsilon of the final norm."""
        return final_norm(self.parts.norm, self.parts.head.weight)

    @cached_property
    def _blocks_answer_tuples(self) -> bool:
        """Tell whether a block's output is the first of several, as in Bloom, or all there is."""
        answers: list[object] = []
        with _hooked({self.parts.blocks[0]: lambda *args: answers.append(args[-1])}):
            self._read(self._embed(torch.zeros(1, 1, dtype=torch.long), None), [0])
        return isinstance(answers[0], tuple)

    @cached_property
    def mean_embedding(self) -> Float[Tensor, " d_model"]:
        """Mean of what tokens enter as: a token that says nothing in particular."""
        weight = self.parts.embed.weight
        mean = weight.mean(0, dtype=torch.float32)
        return (mean * getattr(self.parts.embed, "embed_scale", 1.0)).to(weight.dtype)  # Gemma

    def _changed(
        self,
        ids: Int[Tensor, "batch pos"],
        layers: Sequence[int],
        change: Change | None,
        marked: Bool[Tensor, "batch pos"] | None,
    ) -> Float[Tensor, "layer batch pos d_model"]:
        if change is None:
            return self._read(self._embed(ids, None), layers)
        if marked is None:
            marked = torch.zeros_like(ids, dtype=torch.bool)
        if change.kind is ChangeKind.mean:
            return self._read(self._embed(ids, marked), layers)
        generator = torch.Generator(self.device).manual_seed(change.seed)
        marked = marked.to(self.device)
        hooks = {
            block: _change_of(change, marked, generator, is_noisy=layer == change.layer)
            for layer, block in enumerate(self.parts.blocks)
        }
        with _hooked(hooks):
            return self._read(self._embed(ids, None), layers)

    def _embed(
        self, ids: Int[Tensor, "batch pos"], masked: Bool[Tensor, "batch pos"] | None
    ) -> Float[Tensor, "batch pos d_model"]:
        assert ids.shape[1] <= self.n_ctx, f"{ids.shape[1]} tokens in a context of {self.n_ctx}"
        n_embeds = self.parts.embed.num_embeddings
        if ids.device.type == "cpu" and bool((beyond := ids >= n_embeds).any()):
            token_id = int(ids[beyond][0])
            token = self.tokenizer.convert_ids_to_tokens(token_id)
            raise DataError(
                f"token {token_id}, {token!r}, was added to the tokenizer but not to the model,"
                f" which knows {n_embeds} tokens; take it out of the texts"
            )
        embeds = self.parts.embed(ids.to(self.device))
        if masked is None:
            return embeds
        return torch.where(masked.to(self.device)[..., None], self.mean_embedding, embeds)

    def _read(
        self, embeds: Float[Tensor, "batch pos d_model"], layers: Sequence[int]
    ) -> Float[Tensor, "layer batch pos d_model"]:
        assert layers, "no layer asked for"
        assert all(0 <= layer < self.n_layers for layer in layers), layers
        found: dict[int, Tensor] = {}
        deepest = max(layers)
        hooks = {
            self.parts.blocks[layer]: _keep(found, layer, layer == deepest) for layer in set(layers)
        }
        with _hooked(hooks), suppress(_DeepestBlockReachedError):
            self.parts.trunk(inputs_embeds=embeds, use_cache=False)
        return torch.stack([found[layer] for layer in layers])

    def _cap(self, logits: Tensor) -> Tensor:
        cap = self.parts.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)


def _keep(found: dict[int, Tensor], layer: int, is_last: bool) -> Callable[..., None]:
    def hook(_block: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        found[layer] = output if isinstance(output, Tensor) else output[0]
        if is_last:
            raise _DeepestBlockReachedError

    return hook


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Callable[..., object]]) -> Iterator[None]:
    """Let blocks' outputs be read, or replaced before anything reads them."""
    handles = [block.register_forward_hook(hook) for block, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _change_of(
    change: Change,
    marked: Bool[Tensor, "batch pos"],
    generator: torch.Generator,
    *,
    is_noisy: bool,
) -> Callable[..., object]:
    """Make a hook that changes a block's output at random; `is_noisy`: noise comes after it."""

    def changed(before: Tensor, after: Tensor) -> Tensor:
        if change.kind is ChangeKind.noise:
            return _noisy(after, change.scale, marked, generator) if is_noisy else after
        assert change.kind is ChangeKind.dropout, change
        draw = torch.rand(after.shape, generator=generator, device=after.device)
        kept = (draw >= change.scale).to(after.dtype) / (1 - change.scale)
        return before + kept * (after - before)

    def hook(
        _block: nn.Module, inputs: tuple[Any, ...], output: Tensor | tuple[Any, ...]
    ) -> Tensor | tuple[Any, ...]:
        if isinstance(output, Tensor):
            return changed(inputs[0], output)
        return (changed(inputs[0], output[0]), *output[1:])

    return hook


def _noisy(
    resid: Float[Tensor, "batch pos d_model"],
    scale: float,
    marked: Bool[Tensor, "batch pos"],
    generator: torch.Generator,
) -> Float[Tensor, "batch pos d_model"]:
    draw = torch.randn(resid.shape, generator=generator, device=resid.device)
    rms = resid.float().square().mean(-1, keepdim=True).sqrt()
    return torch.where(marked[..., None], resid + (scale * rms * draw).to(resid.dtype), resid)


@contextmanager
def _answering(blocks: Iterable[nn.Module], answer: Tensor | tuple[Tensor]) -> Iterator[None]:
    """Let blocks give an answer without work."""
    blocks = list(blocks)
    for block in blocks:
        block.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _prefix_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token_id, int):
            return [token_id]
    raise ConfigError(
        "model.prepend_bos=true, but the tokenizer has neither BOS nor EOS; set it to false"
    )


def _tokens_first(mask: Bool[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"] | None:
    """Order that moves each row's tokens to the front; None where they are there already."""
    if not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        return None
    return mask.int().argsort(dim=1, descending=True, stable=True)
