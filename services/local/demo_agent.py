"""The agent of the demo: what a sidecar wakes, once for each task. It does real work and writes a real result.

It knows nothing of the hub. The task comes as JSON on stdin, the result goes to the file that the sidecar names.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

Result = dict[str, Any]

FIRST_GENERATION: Final = 1


def count_primes(options: Mapping[str, Any], _text: str) -> Result:
    """Trial division, on purpose: the demo should have something to watch."""
    below = int(options.get("below", 100_000))
    primes: list[int] = []
    for number in range(2, below):
        limit = math.isqrt(number)
        for prime in primes:
            if prime > limit:
                primes.append(number)
                break
            if number % prime == 0:
                break
        else:
            primes.append(number)
    return {"output": f"{len(primes)} primes below {below}", "primes": len(primes), "largest": primes[-1]}


def find_digest(options: Mapping[str, Any], text: str) -> Result:
    """The smallest number that gives the text a SHA-256 with so many zero bits in front."""
    bits = int(options.get("bits", 18))
    seed = hashlib.sha256(text.encode())
    for nonce in itertools.count():
        attempt = seed.copy()
        attempt.update(str(nonce).encode())
        if int.from_bytes(attempt.digest()) >> (256 - bits) == 0:
            digest = attempt.hexdigest()
            return {"output": f"nonce {nonce} gives {digest[:12]}…", "nonce": nonce, "digest": digest}
    raise AssertionError("the numbers never end")


def word_statistics(options: Mapping[str, Any], text: str) -> Result:
    """How often which word occurs, and which two different words are most alike."""
    words = [word.strip(".,;:!?\"'()").lower() for word in str(options.get("text", text)).split()]
    counts = Counter(word for word in words if word)
    long = {word: count for word, count in counts.items() if len(word) > 3}
    pairs = itertools.combinations(sorted(long), 2)
    alike = min(pairs, key=lambda pair: (edit_distance(*pair), pair), default=None)
    common = ", ".join(f"{word!r} {count}x" for word, count in Counter(long).most_common(2))
    output = f"{len(words)} words, above all {common}" if common else f"{len(words)} words"
    return {"output": output, "words": len(words), "distinct": len(counts), "most_alike": alike}


def edit_distance(left: str, right: str) -> int:
    """Levenshtein's."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


KINDS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Result]]] = {
    "primes": count_primes,
    "digest": find_digest,
    "words": word_statistics,
}


def main() -> int:
    task = json.load(sys.stdin)
    options = task.get("metadata") or {}
    if options.get("fails_first") and task["generation"] == FIRST_GENERATION:
        sys.stderr.write("this task of the demo fails at its first attempt")
        return 1
    started = time.monotonic()
    result = KINDS.get(options.get("kind", "words"), word_statistics)(options, task["description"])
    result |= {"status": "success", "took_ms": round((time.monotonic() - started) * 1000)}
    target = Path(os.environ["AGENTCOM_RESULT_FILE"])
    draft = target.with_suffix(".draft")
    draft.write_text(json.dumps(result), encoding="utf-8")
    draft.replace(target)  # a reader never sees half a result
    return 0


if __name__ == "__main__":
    sys.exit(main())
