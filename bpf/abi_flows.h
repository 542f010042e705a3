/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The part of the ABI that packets write: sessions, flows, first fragments, and the
 * listeners that packets want. The rules of abi.h apply.
 */
#ifndef TPROXY_ABI_FLOWS_H
#define TPROXY_ABI_FLOWS_H

#include <linux/types.h>

/* ---- the session cache ------------------------------------------------------- */

enum session_limits {
	SESSION_SETS_SHIFT = 10,
	SESSION_SETS = 1 << SESSION_SETS_SHIFT,
	SESSION_WAYS = 2, /* entries of a set */
};

struct session_ends {
	__u8 saddr[16];
	__u8 daddr[16];
};

/* The heads are apart from the ends, so that a miss reads one line of memory. */
struct session_set {
	__u64 head[SESSION_WAYS]; /* session_head() in lib/session_cache.h; 0: no entry */
	struct session_ends ends[SESSION_WAYS];
};

/* ---- tracked flows ----------------------------------------------------------- */

enum flow_limits {
	FLOWS = 65536, /* entries of each table of flows */
};

/*
 * The packets that enter for a flow: from `saddr` to `daddr`. Ports are in host order.
 * An ICMP echo has its identifier as `dport`.
 */
struct flow_key {
	__u8 saddr[16];
	__u8 daddr[16];
	__u16 sport;
	__u16 dport;
	__u8 protocol;
	__u8 reserved[3];
};

enum flow_flag {
	FLOW_ANSWERED = 1, /* packets went both ways */
	FLOW_CLOSING = 2,  /* a FIN or RST was seen */
};

struct flow_state {
	__u64 expires; /* CLOCK_MONOTONIC ns */
	__u32 flags;   /* enum flow_flag */
	__u32 reserved;
};

/* ---- fragments ---------------------------------------------------------------- */

enum fragment_limits {
	FRAGMENTS = 16384, /* datagrams whose first fragment is remembered */
};

/*
 * A datagram in fragments, on one interface. The protocol of IPv6 is 0: later fragments
 * need not name the right one (RFC 8200, section 4.5).
 */
struct fragment_key {
	__u8 saddr[16];
	__u8 daddr[16];
	__u32 ifindex;
	__u32 id; /* as in the packet */
	__u8 protocol;
	__u8 reserved[3];
};

/* What the first fragment got. */
struct fragment_state {
	__u64 expires; /* CLOCK_MONOTONIC ns */
	__u32 verdict; /* enum verdict */
	__u32 marked;  /* 1: with the mark of this host */
};

/* ---- listeners for socket lookups ---------------------------------------------- */

enum listener_limits {
	LISTENERS = 4096,
	LISTENERS_WANTED = 256, /* those that user space has not looked for yet */
};

/*
 * The listener of an action, as the rule describes it. The map wanted_sockets has the time
 * (CLOCK_MONOTONIC ns) at which a packet needed it.
 */
struct listener_key {
	__u8 address[16]; /* of the proxy */
	__u64 cookie;	  /* with ACTION_CHECK_LISTENER, else 0 */
	__u32 user;	  /* with ACTION_CHECK_USER, else 0 */
	__be16 port;
	__u8 protocol;
	__u8 checks; /* ACTION_CHECK_LISTENER and ACTION_CHECK_USER, as the action has them */
};

_Static_assert(sizeof(struct session_set) == 80, "struct session_set has no padding");
_Static_assert(sizeof(struct flow_key) == 40, "struct flow_key has no padding");
_Static_assert(sizeof(struct flow_state) == 16, "struct flow_state");
_Static_assert(sizeof(struct fragment_key) == 44, "struct fragment_key has no hidden padding");
_Static_assert(sizeof(struct fragment_state) == 16, "struct fragment_state");
_Static_assert(sizeof(struct listener_key) == 32, "struct listener_key has no padding");

#endif
