"""Loading image folders beside the cache of decoded images, for its tests."""

from pymobilenet.data import image_folder, load_image_folder


def load(path, split="train", notes=None):
    return load_image_folder(path, split, report=[].append if notes is None else notes.append)


def is_decoding(path, monkeypatch, **options):
    """Whether the images are decoded when they are loaded."""
    decoded, decode = [], image_folder.decode
    with monkeypatch.context() as context:
        context.setattr(
            image_folder, "decode", lambda *given: decoded.append(given) or decode(*given)
        )
        load_image_folder(path, "train", report=[].append, **options)
    return bool(decoded)


def files_of(folder):
    return sorted(path.name for path in folder.glob("*")) if folder.exists() else []
