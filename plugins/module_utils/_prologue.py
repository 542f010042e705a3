# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What stands before the archive in tproxy-splicer: the script by which a shell starts it.

1. A router calls its diverter once for each rule, and waits. A Python starts in 10 to 20 ms, perl in 1: so if the
   helper is there, perl asks it. It needs no module of perl's, and Debian always has it (perl-base is Essential).
2. Adding and removing twice is as good as once. So what a helper did not answer (it was killed) is asked again.
3. Else Python is told at once where the archive is and what to call: `python3 ARCHIVE` would find out by itself, 7 ms
   later. Isolated (-I), it reads neither the environment of who calls nor his folder.
"""

from __future__ import annotations

from ._splicer import HELPER_SOCKET

SCRIPT = (
    """\
#!/bin/sh
case $1 in -I | -D)
    [ -S "${TPROXY_SPLICER_HELPER=SOCKET}" ] && [ -x /usr/bin/perl ] && exec /usr/bin/perl -e '
my ($socket, @words) = (@ARGV[0, 2 .. $#ARGV]);
$SIG{PIPE} = "IGNORE";  # a helper that was killed is asked again
for my $try (1 .. 5) {
    socket(S, 1, 1, 0) && connect(S, pack("S a108", 1, $socket)) or last;  # AF_UNIX, SOCK_STREAM
    syswrite(S, join("\\0", @words));
    shutdown(S, 1);
    my ($status, $line) = split(/ /, join("", <S>), 2);
    if (defined $line) {
        print({$status ? *STDERR : *STDOUT} "tproxy-splicer: $line") if $line =~ /\\S/;
        exit $status;
    }
    select(undef, undef, undef, 0.2 * $try);
}
$ENV{TPROXY_SPLICER_HELPER} = "";  # nobody there: do it without
exec $ARGV[1], @words' "$TPROXY_SPLICER_HELPER" "$0" "$@" ;;
esac
exec /usr/bin/python3 -I -c '
import sys
sys.path.insert(0, sys.argv[1])
from tproxy_splicer._cli import main
sys.exit(main(sys.argv[1:]))' "$0" "$@"
"""
).replace("SOCKET", HELPER_SOCKET)
