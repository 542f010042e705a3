/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * The classes of IP protocols: those with ports, the extension headers of IPv6, ICMP,
 * and all others, which rules name by their number.
 */
#ifndef TPROXY_PROTOCOL_H
#define TPROXY_PROTOCOL_H

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/types.h>

#include "compiler.h"

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/*
 * An authentication header is none: the stack gives what follows it to a socket only if
 * it has a key for it, and only behind this hook. So the packet is of protocol AH.
 */
static __always_inline bool is_ext_hdr(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS;
}

/* By a mask: each comparison of its own would double the states of the verifier. */
static __always_inline bool is_portless(__u8 protocol)
{
	const __u64 others = 1ULL << IPPROTO_TCP | 1ULL << IPPROTO_UDP | 1ULL << IPPROTO_ICMP |
			     1ULL << IPPROTO_ICMPV6 | 1ULL << IPPROTO_HOPOPTS |
			     1ULL << IPPROTO_ROUTING | 1ULL << IPPROTO_FRAGMENT |
			     1ULL << IPPROTO_DSTOPTS;

	return protocol > 63 || !(others >> protocol & 1);
}

#endif
