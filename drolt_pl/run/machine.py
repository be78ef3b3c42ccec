"""Values of a configuration that depend on the machine: `${on_accelerator:ACCELERATOR,THERE,ELSEWHERE}`."""

from omegaconf import DictConfig, OmegaConf

NAME = "on_accelerator"


def register() -> None:
    """Makes the resolver known to OmegaConf."""
    OmegaConf.register_new_resolver(NAME, _on_accelerator, replace=True)


def settle(config: DictConfig) -> None:
    """Puts these values in their places, so that a run which goes on elsewhere keeps them."""
    for key in list(_keys(OmegaConf.to_container(config, resolve=False), "")):
        OmegaConf.update(config, key, OmegaConf.select(config, key))


def _on_accelerator(accelerator: str, there: object, elsewhere: object) -> object:
    """`there` where `trainer.accelerator` finds a GPU or its like, else `elsewhere`."""
    import torch  # here: `--help` does without

    return there if accelerator != "cpu" and torch.accelerator.is_available() else elsewhere


def _keys(node: object, key: str) -> list[str]:
    if isinstance(node, dict):
        return [found for name, value in node.items() for found in _keys(value, f"{key}.{name}" if key else str(name))]
    return [key] if isinstance(node, str) and node.startswith(f"${{{NAME}:") else []
