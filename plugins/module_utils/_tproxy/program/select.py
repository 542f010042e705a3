# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Which program is asked for: from a source, a blob or a controller's compilation to one identity.

It compiles only when nothing at hand has that identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ..constants import FUNCTION
from ..errors import InvalidInput, MissingLibrary
from .blob import (
    BESIDE,
    Attached,
    Blob,
    Wanted,
    blob_from_json,
    blob_from_object,
    filter_name,
    of_blob,
    placeholders,
    program_identity,
    source_digest,
)

Options = Mapping[str, Any]


def wanted_program(
    options: Options,
    compiler: Callable[[], Any],
    kept: Blob | None,
    running: Attached | None,
    trusts_kept: bool = False,
) -> Wanted:
    """Return the program that the options ask for.

    `kept` is the blob beside the pinned program, `running` the filter on the hook. With `trusts_kept` a kept blob of
    the same source is the program, whatever compiler made it: to ask a compiler for its version starts a process.
    Raises InvalidInput, CompileFailed, MissingLibrary.
    """
    wanted = _choose(options, compiler, kept, running, trusts_kept)
    if wanted.blob is not None:
        _refuse_foreign_maps(wanted.blob)
    return wanted


def _choose(
    options: Options, compiler: Callable[[], Any], kept: Blob | None, running: Attached | None, trusts_kept: bool
) -> Wanted:
    function = options["function"]
    if options["blob_content"]:
        return of_blob(_read_blob(options["blob_content"], function), False)
    digest = source_digest(options["source_files"], options["source"], function, options["defines"])
    if options["compiled"]:
        return of_blob(blob_from_object(options["compiled"], function, digest), True)
    if trusts_kept and kept is not None and kept.source_sha256 == digest:
        return of_blob(kept, False)
    try:
        identity = program_identity(digest, compiler().version())
    except MissingLibrary:
        # A router from which the compiler went keeps running what was compiled there.
        if kept is None or kept.source_sha256 != digest:
            raise
        identity = kept.identity
    if kept is not None and kept.identity == identity:
        return of_blob(kept, False)
    if running == Attached(filter_name(function, identity)):
        return Wanted(function, identity, digest, None, False)
    return of_blob(_compile(options, compiler, digest), True)


def _compile(options: Options, compiler: Callable[[], Any], digest: str) -> Blob:
    function = options["function"]
    answer = compiled_object(compiler(), options["source_files"], options["source"], function, options["defines"])
    return blob_from_object(answer, function, digest)


def compiled_object(
    compiler: Any, files: Mapping[str, str], entry: str, function: str, defines: Mapping[str, object]
) -> dict[str, Any]:
    """Return the compiler's answer for a function, and for our own program with those of the programs beside it."""
    answer = {**compiler.compile(files, entry, function, defines, placeholders())}
    for name, its_function in BESIDE.items() if function == FUNCTION else ():
        source = f"{its_function}.c"
        if source in files:
            answer[name] = compiler.compile(files, source, its_function, defines, placeholders())
    return answer


def _read_blob(text: str, function: str) -> Blob:
    blob = blob_from_json(text)
    if blob.function != function:
        raise InvalidInput([f"blob: it holds the function {blob.function}, asked for is {function}"])
    return blob


def _refuse_foreign_maps(blob: Blob) -> None:
    """Refuse a program that bears our name but not our maps: it would find its policy nowhere."""
    if blob.function == FUNCTION and not blob.is_splicer:
        raise InvalidInput(
            [f"function: {FUNCTION} is our own program, but this source has other maps; name your function otherwise"]
        )
