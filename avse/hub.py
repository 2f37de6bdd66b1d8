"""Models on the Hugging Face hub: `hf://ORGANISATION/NAME`, fetched once, and shared with `Model.push_to_hub`.

`avse` reads data alone from there: weights, a recipe that names registered plugins, and hashes, which are checked. With
`HF_HUB_OFFLINE=1`, or without a network, what was fetched before is used. `HF_ENDPOINT` names another hub.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from avse.errors import AvseError, needs_extra

_ADDRESS = re.compile(r"hf:/{1,2}(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILES = ("recipe.yaml", "model.safetensors")


def is_address(name: object) -> bool:
    """Whether a name is one of a model on the hub.

    >>> is_address("hf://org/name"), is_address("avse-small")
    (True, False)
    """
    return str(name).startswith("hf:/")


def fetch(address: str) -> Path:
    """The folder of a model on the hub, fetched unless it is there already.

    Arguments
    ---------
    address : str
        `hf://ORGANISATION/NAME`, the newest, or `hf://ORGANISATION/NAME@REVISION`: a branch, a tag or a commit.

    Returns
    -------
    path
        All files are of one commit, even if the model changes meanwhile.

    Raises
    ------
    AvseError
        If there is no such model or revision, or the hub cannot be reached and the model was not fetched before.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise AvseError(
            f"{address}: is no model of the hub. Write hf://ORGANISATION/NAME or hf://ORGANISATION/NAME@REVISION."
        )
    hub = _hub()
    from huggingface_hub import errors

    common = {"repo_id": match["id"], "library_name": "avse", "endpoint": _endpoint()}
    revision = match["revision"]
    try:
        first = Path(hub.hf_hub_download(filename="model.json", revision=revision, **common))
        for name in _FILES:  # the folder of a snapshot is named by its commit
            hub.hf_hub_download(filename=name, revision=first.parent.name, **common)
    except errors.RevisionNotFoundError as error:
        raise AvseError(f"{address}: the model has no revision {revision!r}.") from error
    except errors.RepositoryNotFoundError as error:
        raise AvseError(f"{address}: the hub has no such model, or it is private (`hf auth login`).") from error
    except errors.LocalEntryNotFoundError as error:
        raise AvseError(
            f"{address}: was not fetched before, and the hub cannot be reached. Fetch it where there is a network, or "
            "copy its folder here and give --model FOLDER."
        ) from error
    except errors.EntryNotFoundError as error:
        raise AvseError(
            f"{address}: is no model of avse: it lacks a file of one ({', '.join(_FILES)}, model.json)."
        ) from error
    except (OSError, ValueError) as error:
        raise AvseError(f"{address}: cannot be fetched ({error}).") from error
    return first.parent


def push(folder: Path, name: str, *, private: bool, revision: str | None, message: str) -> str:
    """Upload a model folder; see `avse.model.Model.push_to_hub`."""
    hub = _hub()
    from huggingface_hub.errors import HfHubHTTPError

    api = hub.HfApi(endpoint=_endpoint(), library_name="avse")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message=message)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise AvseError(f"{name}: cannot be uploaded ({error}). Log in with `hf auth login`.") from error
    return f"hf://{name}@{done.oid}"


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _hub() -> Any:
    with needs_extra("hub", "Models of the hub"):
        import huggingface_hub
    return huggingface_hub
