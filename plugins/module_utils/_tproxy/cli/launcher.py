# Copyright: (c) 2026, netedge.tproxy contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""The script at the head of tproxy-splicer, before the archive. The kernel starts it.

1. A router calls its diverter once for each rule, and waits. Python starts in 10 to 20 ms, perl in 1 ms. So if there is
   a helper, perl sends the call to it. That needs no perl module. Without perl, Python sends it (unix_socket.ask).
2. Each call is idempotent. So the script repeats a call without an answer, which a killed helper leaves. It waits for a
   socket that is closed while its unit is there: the role is replacing it. The new socket refuses all users until
   systemd gives it its group. Root needs no helper, and waits for none.
3. Without a helper the script passes the archive and the function to Python: `python3 ARCHIVE` would need 7 ms more to
   find them. Isolated (-I), Python reads neither the environment nor the current folder of the caller.
4. Every Debian system has perl, so there the script is a perl script. On other systems an operator may remove perl, and
   a boot must restore without it. There the script is a shell script that looks for perl, which costs 0.4 ms. Perl
   skips the lines of the shell (-x).
5. systemd sends SIGTERM to all processes of the unit, the calls of a stopping router too (KillMode=control-group in
   systemd.kill(5)). A call that dies leaves its rule. So perl lets a call go on, for 10 s at most. Python goes on to
   the end of the call, or of the time that systemd gives a unit to stop (execve(2) keeps ignored signals). A signal
   before the script runs still ends the call: KillMode=mixed prevents it.
"""

from __future__ import annotations

from typing import Callable

from ..constants import HELPER_SOCKET, HELPER_SOCKET_UNIT, UNIT_FOLDER

PERL_IS_ESSENTIAL = "/var/lib/dpkg/info/perl-base.list"  # dpkg refuses to remove this package
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tproxy_splicer.cli.main import main;"
    " sys.exit(main(sys.argv[1:]))"
)

PERL = (
    (
        """\
#!/usr/bin/perl
my $socket = $ENV{TPROXY_SPLICER_HELPER} // "SOCKET";
if ($socket && ($ARGV[0] eq "-I" || $ARGV[0] eq "-D")) {
    $SIG{TERM} = sub { alarm 10 };  # a stop of the router is not the end of its call
    $SIG{PIPE} = "IGNORE";  # the loop repeats a call to a killed helper
    for my $try (1 .. 5) {
        socket(S, 1, 1, 0) or last;  # AF_UNIX, SOCK_STREAM
        if (connect(S, pack("S a108", 1, $socket))) {
            syswrite(S, join("\\0", @ARGV));
            shutdown(S, 1);
            my ($status, $line) = split(/ /, join("", <S>), 2);
            if (defined $line) {
                print({$status ? *STDERR : *STDOUT} "tproxy-splicer: $line") if $line =~ /\\S/;
                exit $status;
            }
        } elsif ($! != 4 && (!$> || !($! == 111 || $! == 2 && -e "UNIT" || $! == 13 && ++$denied < 3))) {
            last;  # but for EINTR, and ECONNREFUSED, ENOENT, EACCES of a socket that is being replaced
        }
        select(undef, undef, undef, 0.2 * $try);
    }
    $SIG{TERM} = "IGNORE";  # for Python
    $ENV{TPROXY_SPLICER_HELPER} = "";  # no helper: Python executes the call
}
exec("/usr/bin/python3", "-I", "-c", 'START', $0, @ARGV) or die "tproxy-splicer: /usr/bin/python3: $!\\n";
__END__
"""
    )
    .replace("SOCKET", HELPER_SOCKET, 1)
    .replace("UNIT", f"{UNIT_FOLDER}/{HELPER_SOCKET_UNIT}", 1)
)
SHELL = """\
#!/bin/sh
case $1 in -I | -D) trap "" TERM; [ -x /usr/bin/perl ] && exec /usr/bin/perl -x "$0" "$@" ;; esac
exec /usr/bin/python3 -I -c 'START' "$0" "$@"
"""


def script_for(exists: Callable[[str], bool]) -> str:
    """Return the script for a machine. `exists` returns whether the machine has a file."""
    script = PERL if exists(PERL_IS_ESSENTIAL) else SHELL + PERL
    return script.replace("START", START)
