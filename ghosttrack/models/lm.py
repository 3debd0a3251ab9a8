"""A frozen causal language model: residual streams, logits and what links the two."""

import copy
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from ghosttrack.errors import ConfigError, DataError
from ghosttrack.models.changes import ChangeKind
from ghosttrack.models.gpu import sent
from ghosttrack.models.hooks import (
    Changed,
    DeepestBlockReachedError,
    answering,
    change_of,
    hooked,
    keep,
)
from ghosttrack.models.parts import FinalNorm, final_norm, find_parts

CPU_PARAMETERS = 2**25
"""Of blocks, from which on a CPU is given small batches."""


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
        """Turn text into token ids; `prefix` puts `prefix_ids` before them, unless they are there.

        A chat template spells BOS itself.
        """
        ids = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return self._prefixed(ids) if prefix else ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids as `encode` does, together: many times faster."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [self._prefixed(ids) for ids in found["input_ids"]]

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
        change: Changed | None = None,
        past: DynamicCache | None = None,
    ) -> Float[Tensor, "layer batch pos d_model"]:
        """Read the residual stream after the given blocks; the pass ends at the deepest.

        Args:
            ids: Token ids; any valid id where `mask` is False.
            mask: True where there is a token. Where it is False the result is arbitrary.
            layers: Block indices from 0; the result follows their order.
            change: Done to the stream on its way.
            past: Keys and values of what all rows begin with, before `ids`; a batch of one, left
                as it is. Nothing changes there.
        """
        order = _tokens_first(mask)
        if order is None:
            return self._read_changed(ids, layers, change, past)
        if change is not None:
            change = change._replace(marked=change.marked.gather(1, order))
        resid = self._read_changed(ids.gather(1, order), layers, change, past)
        back = order.to(self.device).argsort(dim=1)[None, :, :, None]
        return resid.gather(2, back.expand_as(resid))

    def logits(
        self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """Run one full pass; positions outside the mask get arbitrary numbers."""
        return self.unembed(self.residuals(ids, mask, [self.n_layers - 1])[0])

    @torch.no_grad()
    def attention(
        self, ids: Int[Tensor, "batch pos"], past: DynamicCache | None = None
    ) -> list[Float[Tensor, "batch head pos key"]]:
        """Give the attention weights of the blocks that have some, in their order.

        None where the model's code attends in no way that tells them.

        Args:
            ids: Token ids.
            past: As for `residuals`; the first keys are its own.
        """
        usual = self.model.config._attn_implementation or "eager"
        try:
            self.model.set_attn_implementation("eager")
            found = self.parts.trunk(
                inputs_embeds=self._embed(ids, None),
                output_attentions=True,
                past_key_values=None if past is None else self.copies(past, len(ids)),
                use_cache=past is not None,
            )
        except (ValueError, TypeError):
            return []
        finally:
            self.model.set_attn_implementation(usual)
        weights = getattr(found, "attentions", None) or ()
        return [one for one in weights if one is not None and one.dim() == 4]

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
        with answering(self.parts.blocks[: layer + 1], answer):
            last = self._read(resid, [until])[0]
        return last if order is None else last.gather(1, order.argsort(dim=1))

    @torch.no_grad()
    def advance(
        self,
        ids: Int[Tensor, "batch new"],
        cache: DynamicCache,
        mask: Bool[Tensor, "batch pos"] | None = None,
    ) -> Float[Tensor, "batch d_vocab"]:
        """Append tokens to a key-value cache; return the logits of the next token.

        Args:
            ids: New tokens; the last column is padding nowhere.
            cache: Holds the tokens before them.
            mask: Of the cache and the new tokens, True where there is a token; None: everywhere.
        """
        padded: dict[str, Tensor] = {}
        if mask is not None:
            mask = mask.to(self.device)
            places = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            padded = {"attention_mask": mask.long(), "position_ids": places}
        output = self.parts.trunk(
            inputs_embeds=self._embed(ids, None), past_key_values=cache, use_cache=True, **padded
        )
        return self._cap(self.parts.head(output.last_hidden_state[:, -1]))

    def remember(self, ids: Sequence[int]) -> DynamicCache:
        """Read what texts begin with, as a batch of one."""
        cache = self.new_cache()
        if ids:
            self.advance(torch.tensor([list(ids)]), cache)
        return cache

    def new_cache(self) -> DynamicCache:
        """Make an empty cache of the model's own kind."""
        return DynamicCache(config=self.model.config)

    def copies(self, past: DynamicCache, n: int) -> DynamicCache:
        """Repeat a batch of one; the original stays as it is."""
        cache = copy.deepcopy(past)
        self.keep_rows(cache, torch.zeros(n, dtype=torch.long))
        return cache

    def keep_rows(self, cache: DynamicCache, rows: Int[Tensor, " row"]) -> None:
        """Choose rows of a cache; the states of linear attention are rows of it as well."""
        cache.reorder_cache(rows.to(self.device))  # pyright: ignore[reportArgumentType]

    @cached_property
    def word_tokens(self) -> int:
        """What writing one token costs, in tokens that are read: the head counts as well."""
        held = sum(parameter.numel() for parameter in self.parts.blocks.parameters())
        return 1 + round(self.parts.head.weight.numel() / max(held, 1))

    @cached_property
    def batch_tokens(self) -> int:
        """Tokens per batch: some seconds of work on a CPU, where more at once is no faster."""
        held = sum(parameter.numel() for parameter in self.parts.blocks.parameters())
        return 2048 if self.device.type == "cpu" and held > CPU_PARAMETERS else 16384

    @cached_property
    def can_pad(self) -> bool:
        """Tell whether padding before texts leaves what follows as it is alone."""
        return self._goes_on_as_alone(n_shared=0, n_padding=4)

    @cached_property
    def can_share(self) -> bool:
        """Tell whether texts may go on from a cache of what all of them begin with."""
        return self._goes_on_as_alone(n_shared=6, n_padding=0)

    @cached_property
    def can_pad_shared(self) -> bool:
        """Tell whether padding may follow what is shared; beyond `window` it must not."""
        return self.can_share and self._goes_on_as_alone(n_shared=6, n_padding=2)

    @cached_property
    def window(self) -> int:
        """Least number of tokens that a block looks back on."""
        widths = [getattr(layer, "sliding_window", None) for layer in self.new_cache().layers]
        return min((width for width in widths if width), default=2**31)

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
        with hooked({self.parts.blocks[0]: lambda *args: answers.append(args[-1])}):
            self._read(self._embed(torch.zeros(1, 1, dtype=torch.long), None), [0])
        return isinstance(answers[0], tuple)

    @cached_property
    def mean_embedding(self) -> Float[Tensor, " d_model"]:
        """Mean of what tokens enter as: a token that says nothing in particular."""
        weight = self.parts.embed.weight
        mean = weight.mean(0, dtype=torch.float32)
        return (mean * getattr(self.parts.embed, "embed_scale", 1.0)).to(weight.dtype)  # Gemma

    def _prefixed(self, ids: list[int]) -> list[int]:
        return ids if ids[:1] == self.prefix_ids else [*self.prefix_ids, *ids]

    def _read_changed(
        self,
        ids: Int[Tensor, "batch pos"],
        layers: Sequence[int],
        change: Changed | None,
        past: DynamicCache | None,
    ) -> Float[Tensor, "layer batch pos d_model"]:
        if change is None:
            return self._read(self._embed(ids, None), layers, past)
        if change.change.kind is ChangeKind.mean:
            return self._read(self._embed(ids, change.marked), layers, past)
        is_dropout = change.change.kind is ChangeKind.dropout
        assert past is None or not is_dropout, "dropout is everywhere"
        first = 0 if past is None else past.get_seq_length()
        hooks = {
            block: change_of(change, layer, first) for layer, block in enumerate(self.parts.blocks)
        }
        with hooked(hooks):
            return self._read(self._embed(ids, None), layers, past)

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
        embeds = self.parts.embed(sent(ids, self.device))
        if masked is None:
            return embeds
        return torch.where(masked.to(self.device)[..., None], self.mean_embedding, embeds)

    def _read(
        self,
        embeds: Float[Tensor, "batch pos d_model"],
        layers: Sequence[int],
        past: DynamicCache | None = None,
    ) -> Float[Tensor, "layer batch pos d_model"]:
        assert layers, "no layer asked for"
        assert all(0 <= layer < self.n_layers for layer in layers), layers
        found: dict[int, Tensor] = {}
        deepest = max(layers)
        hooks = {
            self.parts.blocks[layer]: keep(found, layer, layer == deepest) for layer in set(layers)
        }
        cache = None if past is None else self.copies(past, len(embeds))
        with hooked(hooks), suppress(DeepestBlockReachedError):
            self.parts.trunk(
                inputs_embeds=embeds, past_key_values=cache, use_cache=past is not None
            )
        return torch.stack([found[layer] for layer in layers])

    @torch.no_grad()
    def _goes_on_as_alone(self, *, n_shared: int, n_padding: int) -> bool:
        """Compare two texts after one more step with what they give without cache and padding."""
        ids = torch.arange(2, 22).view(2, 10) % self.d_vocab
        ids[:, :n_shared] = 1 % self.d_vocab
        mask = torch.ones_like(ids, dtype=torch.bool)
        mask[1, n_shared : n_shared + n_padding] = False
        masks = (mask[:, :-1], mask) if n_padding else (None, None)
        try:
            cache = self.copies(self.remember(ids[0, :n_shared].tolist()), 2)
            self.advance(ids[:, n_shared:-1], cache, masks[0])
            found = self.advance(ids[:, -1:], cache, masks[1])
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
            return False
        alone = [row[there][None] for row, there in zip(ids, mask, strict=True)]
        expected = torch.cat([self.logits(row, row >= 0)[:, -1] for row in alone])
        rounding = 1e-4 if found.dtype == torch.float32 else 2e-2
        return bool((found - expected).abs().max() <= rounding * expected.abs().max())

    def _cap(self, logits: Tensor) -> Tensor:
        cap = self.parts.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)


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
