"""Opens the vocabulary of a model without its weights, to draw and show prompts."""

import os
from pathlib import Path

from headatlas import specimens
from headatlas.errors import HeadatlasError
from headatlas.fetching import known
from headatlas.lab.loading import configuration, fetched, folders, gguf_places
from headatlas.progress import Progress, no_progress
from headatlas.stimuli.vocabulary import Vocabulary

_TOKENIZER = ["*.json", "*.model", "*.txt", "*.jinja"]  # files of a hub repository, none of them weights


def open_vocabulary(
    name: str, revision: str | None = None, *, trust_remote_code: bool = False, progress: Progress = no_progress
) -> Vocabulary:
    """The vocabulary of the specimen, a folder, a hub id, a GGUF file, or a model that the catalog knows.

    Of a hub id only the tokenizer and the configuration are downloaded. Models that come in packages or as GGUF files
    are fetched whole, because their tokenizer is inside; nothing is loaded into memory.

    Args:
        name: as in `headatlas.lab.open_model`.
        revision: commit, tag or branch, for a hub id.
        trust_remote_code: run the repository's own code.
        progress: told how far files are fetched.

    Raises:
        HeadatlasError: if there is no such model, or it has no tokenizer.
    """
    name, revision = known.hub_id(folders.expanded(name), revision)
    folder = _folder(name, revision, trust_remote_code, progress)
    config = configuration.read_config(name, folder, trust_remote_code).get_text_config()
    return Vocabulary(configuration.read_tokenizer(name, folder, trust_remote_code), int(config.vocab_size))


def _folder(name: str, revision: str | None, trust_remote_code: bool, progress: Progress) -> Path:
    if known.packaged(name):
        return fetched.named_folder(name, revision, progress)[1]
    here = name in specimens.names() or os.path.lexists(name) or gguf_places.is_named(name) or name.count("/") > 1
    if not here and not name.startswith((".", "/", "~")):
        try:
            folder, _ = folders.download(name, revision, [*_TOKENIZER, *["*.py"] * trust_remote_code])
        except HeadatlasError as error:
            raise HeadatlasError(f"{error}{known.suggestion(name)}") from None
        if (folder / "config.json").is_file():
            return folder
    return folders.find_folder(name, revision, pickle=True, code=trust_remote_code, progress=progress)[0]
