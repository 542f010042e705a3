/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/* Offsets in an Ethernet frame with IPv4 without options. */
enum {
	SENDER_OFFSET = 14 + 12,
	PORT_OFFSET = 14 + 20 + 2,
	PORT = 2323,
};

#ifndef ENTRIES
#define ENTRIES 1
#endif
