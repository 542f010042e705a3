/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * IPv4.
 */
#ifndef TPROXY_IPV4_H
#define TPROXY_IPV4_H

#include <linux/ip.h>

#include "packet.h"

enum ipv4_wire {
	IPV4_FRAGMENT = 0x3fff,     /* more fragments, or an offset: RFC 791 */
	IPV4_OFFSET = 0x1fff,
};

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct iphdr *ip = header(skb, offset, sizeof(*ip));
	__u32 header_length, length;

	if (!ip)
		return PARSED_MALFORMED;
	header_length = ip->ihl * 4;
	if (ip->version != 4 || header_length < sizeof(*ip))
		return PARSED_MALFORMED;
	length = true_length(host16(ip->tot_len), skb->len - offset);
	if (length < header_length || offset + length > skb->len)
		return PARSED_MALFORMED;
	map_ipv4(&flow->source, ip->saddr);
	map_ipv4(&flow->destination, ip->daddr);
	flow->protocol = ip->protocol;
	flow->payload = offset + header_length;
	flow->end = offset + length;
	if (ip->frag_off & host16(IPV4_FRAGMENT))
		return PARSED_FRAGMENT;
	return PARSED_OTHER;
}

#endif
