# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What stands before the archive in tproxy-splicer: the script that the kernel starts.

1. A router calls its diverter once for each rule, and waits. A Python starts in 10 to 20 ms, perl in 1: so if a helper
   is there, perl asks it. It needs no module of perl's. Where there is no perl, Python asks (_requests.ask).
2. Adding and removing twice is as good as once. So what a helper did not answer (it was killed) is asked again.
3. Else Python is told at once where the archive is and what to call: `python3 ARCHIVE` would find out by itself, 7 ms
   later. Isolated (-I), it reads neither the environment of who calls nor his folder.
4. Debian cannot be without perl, so there the script is perl's. Elsewhere perl may go, and a boot must restore all the
   same: a shell looks for it, which costs 0.4 ms, and perl passes over the shell's lines (-x).
"""

from __future__ import annotations

from typing import Callable

from ..constants import HELPER_SOCKET

PERL_IS_ESSENTIAL = "/var/lib/dpkg/info/perl-base.list"  # a package that dpkg removes from no system
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tproxy_splicer.cli.main import main;"
    " sys.exit(main(sys.argv[1:]))"
)

PERL = (
    """\
#!/usr/bin/perl
my $socket = $ENV{TPROXY_SPLICER_HELPER} // "SOCKET";
if ($socket && ($ARGV[0] eq "-I" || $ARGV[0] eq "-D")) {
    $SIG{PIPE} = "IGNORE";  # a helper that was killed is asked again
    for my $try (1 .. 5) {
        socket(S, 1, 1, 0) && connect(S, pack("S a108", 1, $socket)) or last;  # AF_UNIX, SOCK_STREAM
        syswrite(S, join("\\0", @ARGV));
        shutdown(S, 1);
        my ($status, $line) = split(/ /, join("", <S>), 2);
        if (defined $line) {
            print({$status ? *STDERR : *STDOUT} "tproxy-splicer: $line") if $line =~ /\\S/;
            exit $status;
        }
        select(undef, undef, undef, 0.2 * $try);
    }
    $ENV{TPROXY_SPLICER_HELPER} = "";  # nobody there: do it without
}
exec("/usr/bin/python3", "-I", "-c", 'START', $0, @ARGV) or die "tproxy-splicer: /usr/bin/python3: $!\\n";
__END__
"""
).replace("SOCKET", HELPER_SOCKET, 1)
SHELL = """\
#!/bin/sh
case $1 in -I | -D) [ -x /usr/bin/perl ] && exec /usr/bin/perl -x "$0" "$@" ;; esac
exec /usr/bin/python3 -I -c 'START' "$0" "$@"
"""


def script_for(exists: Callable[[str], bool]) -> str:
    """Return the script for a machine, of which `exists` says whether it has a file."""
    script = PERL if exists(PERL_IS_ESSENTIAL) else SHELL + PERL
    return script.replace("START", START)
