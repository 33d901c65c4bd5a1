"""A network and a Trainer of Hugging Face: python hugging_face_trainer.py

1. make_network makes the model from its configuration, or by from_pretrained (then give the study
   init="inherit").
2. Example inputs by keyword, as the Trainer calls it, but no labels: ssr_exp.Inputs(kwargs={...}).
3. Trainer(model=candidate.network), never model_init=, which would train a network of its own.
4. Tell what evaluate() says. load_best_model_at_end=True may be used: it loads weights only.
A configuration describes the seed network, so from_pretrained(folder) cannot make a rescaled one,
whatever save_pretrained wrote: take networks from study.trained(code), or ssr_exp's best/.
"""

import os

import torch
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from ssr_exp import Inputs, Score, Study

EPOCHS = int(os.environ.get("EPOCHS", 10))
SIZES = {"num_channels": 1, "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [2, 2]}


def make_network():
    return ResNetForImageClassification(ResNetConfig(**SIZES, layer_type="basic", num_labels=2))


def images(count, seed):  # noise, and on it a bright square (class 0) or a bright bar (1)
    pixels = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    pixels[0::2, :, 11:21, 11:21] += 0.4
    pixels[1::2, :, 14:18, 4:28] += 0.4
    return [{"pixel_values": image, "labels": index % 2} for index, image in enumerate(pixels)]


def train(candidate):
    settings = TrainingArguments(
        output_dir=str(candidate.folder / "trainer"),
        seed=candidate.seed,
        num_train_epochs=EPOCHS,
        learning_rate=2e-3,
        per_device_train_batch_size=32,
        save_strategy="no",
        report_to="none",
    )
    trainer = Trainer(
        model=candidate.network,
        args=settings,
        train_dataset=images(192, seed=0),
        eval_dataset=images(200, seed=1),
        compute_metrics=lambda of: {"accuracy": (of.predictions.argmax(1) == of.label_ids).mean()},
    )
    trainer.train()
    return trainer.evaluate()["eval_accuracy"]


if __name__ == "__main__":
    score = Score("accuracy", "max", bounds=(0, 1))
    question = {"together": 1, "objective": "smallest", "max_drop": 0.05, "rounds": 1, "batch": 2}
    example = Inputs(kwargs={"pixel_values": torch.zeros(2, 1, 32, 32)})
    study = Study(make_network, example, name="trainer", score=score, **question)
    while candidate := study.ask():
        study.tell(candidate, train(candidate))
    print(study.answer())
