"""CLIP score, aesthetic score and similarities by their definitions in numpy, on tiny models of the real classes."""

import json
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")  # comes with ComfyUI; `python dev.py test --fast` may do without

from transformers import BlipForConditionalGeneration, BlipProcessor, CLIPModel, CLIPProcessor
from transformers import CLIPVisionModelWithProjection as CLIPVision

from gsn.metrics.aesthetic import AestheticPredictor
from gsn.metrics.caption import Captioner
from gsn.metrics.clip_encoder import ClipEncoder
from gsn.metrics.clip_score import clip_scores
from gsn.metrics.image_scores import COLUMNS, score_images
from gsn.metrics.imagenet_templates import TEMPLATES
from gsn.metrics.local_models import ModelMissing, as_images
from gsn.metrics.similarity import in_templates, without_opening

from . import tiny_scorers

PROMPT = "a photo of a red cat and a dog"


@pytest.fixture(scope="module", autouse=True)
def no_network():
    """Any attempt to reach a server fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a scoring model was looked for on the network")

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", refuse)
    patch.setattr(socket, "getaddrinfo", refuse)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: getattr(tiny_scorers, name)(root / name) for name in ("clip", "blip", "aesthetic")}


@pytest.fixture(scope="module")
def scores(folders):
    models = (ClipEncoder.load(folders["clip"]), Captioner.load(folders["blip"]),
              AestheticPredictor.load(folders["aesthetic"]))  # fmt: skip
    return score_images(tiny_scorers.pictures(), PROMPT, ["cat", "dog"], *models)


class Independent:
    """The definitions from the model's own embeddings, in numpy and float64."""

    def __init__(self, folder):
        self.model, self.processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)

    def image(self, picture):
        eight_bit = Image.fromarray((picture.numpy() * 255).round().astype(np.uint8))
        return self._unit(self.model.get_image_features(**self.processor(images=eight_bit, return_tensors="pt")))

    def text(self, text):
        return self._unit(self.model.get_text_features(**self.processor(text=[text], return_tensors="pt")))

    def averaged(self, text):
        found = []
        for template in TEMPLATES:
            filled = template.format(text).replace("  ", " ").replace(" a a ", " a ").replace("the a", "a")
            found.append(self.text(filled))
        mean = np.mean(found, axis=0)
        return mean / np.linalg.norm(mean)

    @staticmethod
    def _unit(output):
        vector = getattr(output, "pooler_output", output)[0].detach().numpy().astype(np.float64)
        return vector / np.linalg.norm(vector)


def test_clip_score_and_similarities_by_their_definitions(folders, scores):
    own = Independent(folders["clip"])
    images = [own.image(picture) for picture in tiny_scorers.pictures()]
    whole, cat, dog = own.averaged("a red cat and a dog"), own.averaged("cat"), own.averaged("dog")
    captions = [own.text(caption) for caption in scores.captions]
    expected = {
        "clip_score": [100 * image @ own.text(PROMPT) for image in images],
        "full_prompt": [image @ whole for image in images],
        "minimum_object": [min(image @ cat, image @ dog) for image in images],
        "text_text": [caption @ whole for caption in captions],
    }
    for name, values in expected.items():
        scale = 100 if name == "clip_score" else 1
        assert np.ptp(values) > 0.01 * scale  # three pictures that differ
        assert scores.values[name] == pytest.approx(values, abs=1e-6 * scale), name
    assert scores.mean("full_prompt") == pytest.approx(np.mean(expected["full_prompt"]), abs=1e-6)


def test_clip_score_against_torchmetrics(folders):
    multimodal = pytest.importorskip("torchmetrics.functional.multimodal")

    class ReturnsTensors:
        """transformers 5 returns an object where torchmetrics 1.9 wants the tensor in it."""

        def __init__(self, model):
            self.model, self.config = model, model.config

        def to(self, device):
            return self

        def get_image_features(self, pixels):
            found = self.model.get_image_features(pixels)
            return getattr(found, "pooler_output", found)

        def get_text_features(self, ids, mask):
            found = self.model.get_text_features(ids, mask)
            return getattr(found, "pooler_output", found)

    own = Independent(folders["clip"])
    pictures = tiny_scorers.pictures()
    encoder = ClipEncoder.load(folders["clip"])
    texts = ["cat", "dog", "a cat and a dog", "red"]
    found = [clip_scores(encoder, encoder.images(pictures), [text]) for text in texts]
    assert any(one.mean() > 0 for one in found) and any(one.mean() < 0 for one in found)
    for text, mine in zip(texts, found, strict=True):
        eight_bit = (pictures.movedim(-1, 1) * 255).round().to(torch.uint8)
        with torch.no_grad():
            theirs = multimodal.clip_score(
                eight_bit, [text] * len(pictures), lambda: (ReturnsTensors(own.model), own.processor)
            )
        scored = score_images(pictures, text, encoder=encoder, columns=["clip_score"])
        assert scored.mean("clip_score") == pytest.approx(float(theirs), abs=1e-4)  # of 100
        assert scored.values["clip_score"] == pytest.approx(mine.tolist(), abs=1e-4)


def test_aesthetic_score_by_its_definition(folders, scores):
    vision = CLIPVision.from_pretrained(folders["aesthetic"])
    own = AestheticPredictor.load(folders["aesthetic"])
    weights = {key: value.double().numpy() for key, value in own._model.layers.state_dict().items()}
    processor = CLIPProcessor.from_pretrained(folders["clip"])  # the same picture settings
    for picture, score in zip(tiny_scorers.pictures(), scores.values["aesthetic"], strict=True):
        pixels = processor(images=as_images(picture[None]), return_tensors="pt")["pixel_values"]
        value = vision(pixel_values=pixels).image_embeds[0].detach().double().numpy()
        value = value / np.linalg.norm(value)
        for layer in (0, 2, 4, 6, 7):  # linear layers, nothing between them
            value = weights[f"{layer}.weight"] @ value + weights[f"{layer}.bias"]
        assert score == pytest.approx(float(value[0]), abs=1e-5)
    assert [weights[f"{layer}.weight"].shape[0] for layer in (0, 2, 4, 6, 7)] == [1024, 128, 64, 16, 1]


def test_captions_are_blips_likeliest_words(folders, scores):
    model = BlipForConditionalGeneration.from_pretrained(folders["blip"]).eval()
    processor = BlipProcessor.from_pretrained(folders["blip"])
    for picture, caption in zip(tiny_scorers.pictures(), scores.captions, strict=True):
        inputs = processor(images=as_images(picture[None]), return_tensors="pt")
        ids = torch.tensor([[model.decoder_input_ids]])
        with torch.no_grad():
            seen = model.vision_model(pixel_values=inputs["pixel_values"])[0]
            while ids.shape[1] < 20:
                logits = model.text_decoder(input_ids=ids, encoder_hidden_states=seen).logits[:, -1]
                ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), 1)
        assert caption == processor.decode(ids[0], skip_special_tokens=True)
    assert len(set(scores.captions)) == 3


def test_a_batch_is_its_pictures_one_by_one(folders, scores):
    encoder, predictor = ClipEncoder.load(folders["clip"]), AestheticPredictor.load(folders["aesthetic"])
    many = tiny_scorers.pictures(3).repeat(7, 1, 1, 1)  # more than are taken at once
    again = score_images(many, PROMPT, ["dog", "cat"], encoder, aesthetic=predictor)
    for name in ("clip_score", "minimum_object", "aesthetic"):
        assert again.values[name] == pytest.approx(scores.values[name] * 7, rel=1e-4, abs=1e-5)


def test_the_templates_are_clips():
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 80
    assert TEMPLATES[0] == "a bad photo of a {}." and TEMPLATES[-1] == "a tattoo of the {}."
    assert all(one.count("{}") == 1 for one in TEMPLATES)


def test_texts_are_cleaned_as_published():
    filled = in_templates("a cat and a dog")
    assert filled[0] == "a bad photo of a cat and a dog."  # a a
    assert filled[32] == "a photo of a cat and a dog."  # the a
    assert filled[35] == "a a cat and a dog in a video game."  # at the beginning it stays, there too
    assert in_templates("apple")[32] == "a photo of apple."
    assert without_opening(PROMPT) == "a red cat and a dog" and without_opening("a painting of a cat") == (
        "a painting of a cat"
    )


def test_a_picture_from_a_file_comes_back_as_it_was():
    values = torch.arange(256, dtype=torch.uint8)
    picture = (values.float() / 255).reshape(1, 16, 16, 1).expand(-1, -1, -1, 3)
    (image,) = as_images(picture)
    assert np.array_equal(np.asarray(image)[..., 0].ravel(), values.numpy())
    assert np.asarray(as_images(torch.full((1, 2, 2, 4), 1.5))[0]).shape == (2, 2, 3)
    assert np.all(np.asarray(as_images(torch.full((1, 2, 2, 3), 0.5))[0]) == 127)  # as SaveImage: not rounded


def test_what_was_not_asked_for_is_not_there(folders):
    encoder = ClipEncoder.load(folders["clip"])
    scores = score_images(tiny_scorers.pictures(), PROMPT, (), encoder, columns=["clip_score", "minimum_object"])
    assert list(scores.values) == ["clip_score"] and scores.mean("aesthetic") is None
    assert "no objects were named" in scores.notes[0] and "no objects" in scores.text()
    content = json.loads(scores.to_json())
    assert [set(row) for row in content["images"]] == [{"image", "clip_score"}] * 3
    assert list(content["mean"]) == ["clip_score"] and "clip_score" in COLUMNS


def test_a_prompt_longer_than_clip_reads_is_said(folders, tmp_path):
    encoder = ClipEncoder.load(tiny_scorers.clip(tmp_path / "short", length=8))
    scores = score_images(tiny_scorers.pictures(1), "abcdefghij", (), encoder, columns=["clip_score"])
    assert "longer than CLIP reads" in scores.notes[0]
    same = score_images(tiny_scorers.pictures(1), "abcdefxyz", (), encoder, columns=["clip_score"])
    assert same.values == scores.values  # six letters and the two ends
    assert not score_images(tiny_scorers.pictures(1), "abcdef", (), encoder, columns=["clip_score"]).notes


LOADERS = {"clip": ClipEncoder, "blip": Captioner, "aesthetic": AestheticPredictor}
SOURCES = {
    "clip": "openai/clip-vit-base-patch16",
    "blip": "Salesforce/blip-image-captioning-base",
    "aesthetic": "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE",
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_model_says_which_files_go_where(folders, tmp_path, name):
    with pytest.raises(ModelMissing) as caught:
        LOADERS[name].load(tmp_path / "none")
    said = str(caught.value)
    assert "config.json, model.safetensors or pytorch_model.bin" in said and str(tmp_path / "none") in said
    assert SOURCES[name] in said and ("tokenizer.json" in said) == (name != "aesthetic")
    shutil.copytree(folders[name], tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    with pytest.raises(ModelMissing, match="is missing: put model.safetensors or pytorch_model.bin of"):
        LOADERS[name].load(tmp_path / "half")


def test_a_folder_of_another_model_is_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="kind 'blip', but the CLIP model is of the kind 'clip'"):
        ClipEncoder.load(folders["blip"])
    with pytest.raises(ValueError, match="kind 'clip', but the aesthetic predictor"):
        AestheticPredictor.load(folders["clip"])
    vision = CLIPVision.from_pretrained(folders["aesthetic"])  # without the layers on top
    vision.save_pretrained(tmp_path / "bare")
    shutil.copy(folders["aesthetic"] / "preprocessor_config.json", tmp_path / "bare")
    with pytest.raises(ValueError, match="lack layers.0.bias; the aesthetic predictor"):
        AestheticPredictor.load(tmp_path / "bare")


DAMAGED = {"config.json": "is damaged", "model.safetensors": "cannot be loaded as", "vocabulary": "its tokeniser"}


@pytest.mark.parametrize(("file", "said"), DAMAGED.items())
def test_a_damaged_file_is_named(folders, tmp_path, file, said):
    shutil.copytree(folders["clip"], tmp_path / "bad")
    if file == "vocabulary":  # transformers 4 and 5 write different ones
        file = "tokenizer.json" if (tmp_path / "bad" / "tokenizer.json").exists() else "vocab.json"
    (tmp_path / "bad" / file).write_bytes((tmp_path / "bad" / file).read_bytes()[:40])
    with pytest.raises(ValueError, match=said):
        ClipEncoder.load(tmp_path / "bad")


def test_the_environment_is_as_before(folders):
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    ClipEncoder.load(folders["clip"])
    with pytest.raises(ValueError):
        ClipEncoder.load(folders["blip"])
    assert before == constants.HF_HUB_OFFLINE
