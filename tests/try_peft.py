"""Load an exported adapter with another version of PEFT, and compare its logits with those under the installed one.

    pip install --no-deps --target /tmp/peft-0.12.0 peft==0.12.0
    python tests/try_peft.py /tmp/peft-0.12.0

A script, not collected by pytest, because it needs that version installed beside ours. The made-up run has matrices of
every rank, so that the file has patterns of ranks, left-out matrices, and a head.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
LOAD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import peft, torch
from transformers.utils import logging
logging.set_verbosity_error()
logging.disable_progress_bar()
folder, labels, rows, mask, ours = json.load(sys.stdin)
model = peft.AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=labels).eval()
with torch.no_grad():
    logits = model(input_ids=torch.tensor(rows), attention_mask=torch.tensor(mask)).logits
print(peft.__version__, float((logits - torch.tensor(ours)).abs().max()))
"""


def main(target: str) -> int:
    """Print each architecture's version of PEFT and largest difference of a logit; the exit code."""
    import torch
    from helpers.exporting import make_run
    from helpers.toys import KINDS, tokens

    from lora2.models.backbone import quiet_transformers
    from lora2.runs.export.folder import export_run
    from lora2.runs.export.formats import load_lora
    from lora2.runs.restore import backbone, open_run

    quiet_transformers()
    codes = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as name:
            home = make_run(Path(name), kind, "mixed")
            saved = open_run(home.run_id, "best", home.results)
            export_run(saved, "lora", Path(name) / "adapter")
            batch = tokens()
            with torch.no_grad():
                ours = load_lora(backbone(saved), Path(name) / "adapter")(**batch).logits
            job = [f"{name}/adapter", ours.shape[1], *(x.tolist() for x in batch.values()), ours.tolist()]
            environment = {**os.environ, "PYTHONPATH": target}
            command = [sys.executable, "-c", LOAD]
            print(kind, end=" ", flush=True)
            codes.append(
                subprocess.run(command, input=json.dumps(job), text=True, env=environment, check=False).returncode
            )
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
