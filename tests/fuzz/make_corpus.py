#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seed corpus of the fuzzers of on-disk structures from the kept bytes in tests/golden/format.txt.

    tests/fuzz/make_corpus.py       writes tests/fuzz/corpus/fuzz_NAME/golden_SECTION

Inputs that a fuzzer found later lie beside these under names of their own.
"""

import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = {
    "super": [["superblock"]],
    "checkpoint": [["checkpoint"]],
    "batch": [["batch"]],
    "record": [["record_" + kind] for kind in ("data", "state", "create", "delete", "resize", "discard", "noop")],
    "page": [["leaf"], ["inner"], ["state"], ["chunk_lz4"], ["chunk_raw"]],
    "summary": [["summary_body"], ["summary_body", "trailer_head"], ["cleaned_body", "trailer_cleaned"],
                ["trailer_cleaned_meta"]],
    "directory": [["directory"]],
}


def sections():
    """Name of each section: its bytes."""
    kept, name = {}, None
    with open(os.path.join(HERE, "..", "golden", "format.txt"), encoding="ascii") as file:
        for line in file:
            if line.startswith("["):
                name = line.strip("[]\n")
                kept[name] = bytearray()
            elif name and not line.startswith("#"):
                for token in re.sub(r"^\S+ += ", "", line).split():
                    kept[name] += kept[name][-1:] * (int(token[1:]) - 1) if token[0] == "*" else bytes.fromhex(token)
    return kept


def main():
    kept = sections()
    for fuzzer, seeds in SEEDS.items():
        folder = os.path.join(HERE, "corpus", "fuzz_" + fuzzer)
        os.makedirs(folder, exist_ok=True)
        for seed in seeds:
            with open(os.path.join(folder, "golden_" + "_".join(seed)), "wb") as file:
                file.write(b"".join(kept[section] for section in seed))


if __name__ == "__main__":
    main()
