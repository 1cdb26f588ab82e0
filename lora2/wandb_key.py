"""Whether wandb would find a key without asking for one; imports nothing of it."""

import netrc
import os


def has_wandb_key() -> bool:
    """In the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
