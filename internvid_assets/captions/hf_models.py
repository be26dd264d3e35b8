"""How each family of models is asked, and how its answer is read. The family is told from what was loaded, not from its name.

Legend: `ids_NL` are token ids of N items of L tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from PIL.Image import Image

from internvid_assets.lake.stage import Refusal

if TYPE_CHECKING:
    from internvid_assets.captions.hf import Checkpoint


@dataclass(frozen=True)
class Running:
    """Where and how models run."""

    device: str
    dtype: str
    batch_size: int
    generation: Mapping[str, Any]

    def place(self) -> tuple[str, torch.dtype | str]:
        """The device, by default the first GPU or else the CPU, and the number format, by default float32 on the CPU.

        Raises: ValueError for a device that is not there.
        """
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"device = {device!r} cannot be used ({_one_line(error)}): leave it empty for the first GPU or else the CPU"
            ) from error
        default = "float32" if device.startswith("cpu") else "auto"
        name = self.dtype or default
        return device, name if name == "auto" else getattr(torch, name)


class Model(ABC):
    """A loaded model that writes a text for each item."""

    style: str

    def __init__(self, tools: Any, model: Any, running: Running):
        self.tools, self.model = tools, model
        self.batch_size, self.generation = running.batch_size, dict(running.generation)

    def texts(self, items: Sequence[Any], prompt: str) -> list[str | Refusal]:
        """A text of each item, in order; may be empty. Memory that runs out halves the batch; one item alone is refused."""
        texts: list[str | Refusal] = []
        while len(texts) < len(items):
            batch = items[len(texts) : len(texts) + self.batch_size]
            try:
                texts += [" ".join(text.split()) for text in self._ask(batch, prompt)]
                continue
            except torch.OutOfMemoryError as error:
                refusal = Refusal("out_of_memory", f"one item does not fit: {_one_line(error)}")
            # Outside the handler, whose error holds the tensors of the failed call.
            torch.cuda.empty_cache()
            if len(batch) == 1:
                texts.append(refusal)
            self.batch_size = max(1, len(batch) // 2)
        return texts

    @abstractmethod
    def _ask(self, items: Sequence[Any], prompt: str) -> list[str]:
        """The answers, as decoded."""

    @torch.inference_mode()
    def _generate(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """New ids_NL; models that only decode give the prompt's ids before them."""
        device, dtype = self.model.device, self.model.config.dtype or self.model.dtype
        given = {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }
        return self.model.generate(**given, **self.generation)


class PrefixModel(Model):
    """BLIP, BLIP-2 and GIT: captions that go on from the prompt, which is no part of the text."""

    style = "prefix"

    def __init__(self, tools: Any, model: Any, running: Running):
        super().__init__(tools, model, running)
        if (
            getattr(tools, "num_query_tokens", 0) is None
        ):  # BLIP-2 as older versions saved it: it would not see the picture
            tools.num_query_tokens = model.config.num_query_tokens

    def _ask(self, items: Sequence[Image], prompt: str) -> list[str]:
        inputs = self.tools(images=list(items), return_tensors="pt", **self._words(prompt, len(items)))
        answers = self.tools.batch_decode(self._generate(inputs), skip_special_tokens=True)
        tokenizer = self.tools.tokenizer
        start = tokenizer.decode(tokenizer(prompt)["input_ids"], skip_special_tokens=True)
        return [answer.removeprefix(start) for answer in answers]

    def _words(self, prompt: str, count: int) -> dict[str, Any]:
        if not prompt:
            return {}
        if self.model.config.model_type == "git":  # it goes on from the last token, which must not be the closing one
            start = f"{self.tools.tokenizer.cls_token}{prompt}"
            return {"text": [start] * count, "add_special_tokens": False, "return_token_type_ids": False}
        return {"text": [prompt] * count}


class TaskModel(Model):
    """Florence-2: the prompt is a task token such as `<CAPTION>`; of tasks that find things, the text is their names."""

    style = "task"

    def _ask(self, items: Sequence[Image], prompt: str) -> list[str]:
        inputs = self.tools(images=list(items), text=[prompt] * len(items), padding=True, return_tensors="pt")
        answers = self.tools.batch_decode(self._generate(inputs), skip_special_tokens=False)
        return [self._read(answer, prompt, picture) for answer, picture in zip(answers, items, strict=True)]

    def _read(self, answer: str, task: str, picture: Image) -> str:
        answer = answer.replace(self.tools.tokenizer.pad_token, "")  # else shorter answers of a batch would end in them
        found = self.tools.post_process_generation(text=answer, task=task, image_size=picture.size)[task]
        return found if isinstance(found, str) else ", ".join(dict.fromkeys(found.get("labels", ())))


class ChatModel(Model):
    """Qwen-VL, InternVL and others with a chat template: a picture and a question, of which the answer is the text."""

    style = "chat"

    def __init__(self, tools: Any, model: Any, running: Running):
        super().__init__(tools, model, running)
        self.options: dict[str, Any] = {"padding": True}
        tools.tokenizer.padding_side = "left"
        if hasattr(tools.image_processor, "crop_to_patches"):
            # InternVL would blow up a 4:3 frame of 224 lines into 13 tiles of 448 x 448, and see no more in them.
            self.options["images_kwargs"] = {"crop_to_patches": False}

    def _ask(self, items: Sequence[Image], prompt: str) -> list[str]:
        inputs = self.tools.apply_chat_template(
            [[_question(prompt, picture)] for picture in items],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=dict(self.options),
        )
        ids_NL = self._generate(inputs)
        asked = 0 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return self.tools.batch_decode(ids_NL[:, asked:], skip_special_tokens=True)


def _question(prompt: str, picture: Image) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]}


class MergeModel(Model):
    """T5 and the like, chat models, and plain ones that go on from the prompt; items are what `fitted` gives."""

    def __init__(self, tools: Any, model: Any, running: Running):
        super().__init__(tools, model, running)
        encodes = model.config.is_encoder_decoder
        self.style = "seq2seq" if encodes else "chat" if tools.chat_template else "plain"
        if tools.pad_token is None:
            tools.pad_token = tools.eos_token
        self.generation["pad_token_id"] = tools.pad_token_id
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or tools.model_max_length
        self.room = min(tools.model_max_length, positions) - (0 if encodes else self.generation["max_new_tokens"])

    def fitted(self, texts: Sequence[str], prompt: str) -> list[int] | Refusal:
        """Token ids of the prompt with as many of the texts as the model has room for, from the first on.

        Refuses a clip without texts, and all clips when the prompt alone takes the room.
        """
        if not texts:
            return Refusal("empty_text", "the clip has no text to merge")
        kept = list(texts)
        while kept:
            ids = self._ids(prompt.replace("{texts}", self._joined(kept)))
            if len(ids) <= self.room:
                return ids
            kept = kept[:-1] or list(filter(None, [kept[0][: len(kept[0]) // 2].strip()]))
        return Refusal("prompt_too_long", f"the merge model has room for {self.room} tokens: shorten merge_prompt")

    def _joined(self, texts: Sequence[str]) -> str:
        if self.style == "seq2seq":
            return ". ".join(text.rstrip(" .") for text in texts)
        return "\n".join(f"- {text}" for text in texts)

    def _ids(self, prompt: str) -> list[int]:
        if self.style != "chat":
            return self.tools(prompt)["input_ids"]
        asked = [{"role": "user", "content": prompt}]
        # Models that think aloud would spend all their tokens on it; the others' templates do not know the word.
        return self.tools.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=True, return_dict=True, enable_thinking=False
        )["input_ids"]

    def _ask(self, items: Sequence[list[int]], prompt: str) -> list[str]:
        encodes = self.style == "seq2seq"  # encoders count positions from the left, decoders go on at the right
        side = "right" if encodes else "left"
        inputs = self.tools.pad({"input_ids": list(items)}, padding_side=side, return_tensors="pt")
        asked = 0 if encodes else inputs["input_ids"].shape[1]
        answers = self.tools.batch_decode(self._generate(inputs)[:, asked:], skip_special_tokens=True)
        # A plain model does not know when to stop: it goes on with another list.
        return [answer.strip().partition("\n")[0] if self.style == "plain" else answer for answer in answers]


def load_picture_model(checkpoint: Checkpoint, running: Running) -> Model:
    """A model that describes pictures. Raises: ValueError when it cannot be loaded, naming the option."""
    device, dtype = running.place()
    with _loading(checkpoint):
        config = transformers.AutoConfig.from_pretrained(checkpoint.model, **checkpoint.pin)
        processor = _processor_class(config).from_pretrained(checkpoint.model, **checkpoint.pin)
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            checkpoint.model, dtype=dtype, **checkpoint.pin
        )
        return _family(config, processor)(processor, model.eval().to(device), running)


def load_merge_model(checkpoint: Checkpoint, running: Running) -> MergeModel:
    """A model that makes one text of several. Raises: ValueError when it cannot be loaded, naming the option."""
    device, dtype = running.place()
    with _loading(checkpoint):
        config = transformers.AutoConfig.from_pretrained(checkpoint.model, **checkpoint.pin)
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.model, **checkpoint.pin)
        model = _text_class(config).from_pretrained(checkpoint.model, dtype=dtype, **checkpoint.pin)
        return MergeModel(tokenizer, model.eval().to(device), running)


@contextmanager
def _loading(checkpoint: Checkpoint) -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # a checkpoint can be wrong in as many ways as there are families
        raise ValueError(
            f"{checkpoint.option} = {checkpoint.model!r} cannot be loaded ({_one_line(error)}): name a folder that holds a "
            "checkpoint, or a model of the hub that can be reached or was fetched before, with a class in transformers"
        ) from error


def _processor_class(config: Any) -> Any:
    """The processor for pictures and texts; that for videos needs torchvision, and is not needed."""
    kind: Any = transformers.PROCESSOR_MAPPING.get(type(config), None)
    if kind is None or "video_processor" not in kind.get_attributes():
        return transformers.AutoProcessor
    attributes = [name for name in kind.get_attributes() if name != "video_processor"]
    return type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: attributes)})


def _family(config: Any, processor: Any) -> type[Model]:
    if config.model_type == "florence2":
        return TaskModel
    return ChatModel if getattr(processor, "chat_template", None) else PrefixModel


def _text_class(config: Any) -> Any:
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForImageTextToText  # Qwen-VL and the like can merge, too


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
