/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR GPL-3.0-or-later */
/*
 * IPv4.
 */
#ifndef TPROXY_IPV4_H
#define TPROXY_IPV4_H

#include <linux/ip.h>

#include "packet.h"

/* Flags and offset in the header: RFC 791; names of include/net/ip.h. */
enum ipv4_frag_off {
	IP_MF = 0x2000,
	IP_OFFSET = 0x1fff,
};

/* Types of options, and the most of them that the parser follows: RFC 791, section 3.1. */
enum ipv4_options {
	IPV4_OPTION_END = 0,
	IPV4_OPTION_NOP = 1,
	IPV4_OPTION_LSRR = 131,
	IPV4_OPTION_SSRR = 137,
	IPV4_OPTIONS_MAX = 8,
};

struct ipv4_option {
	__u8 type;
	__u8 length; /* with type and length; IPV4_OPTION_NOP has none */
};

/*
 * Return 1 if the options from `at` to the transport header have a source route, whose
 * packets the stack sends on or drops. It drops those whose options are no options, too.
 */
static __always_inline __u8 has_source_route(struct __sk_buff *skb, const struct flow *flow,
					     __u32 at)
{
	struct ipv4_option option;
	__u8 found = 0;
	int i;

#pragma unroll
	for (i = 0; i < IPV4_OPTIONS_MAX && at < flow->l4_off; i++) {
		/* One without a second byte in the packet can only be one of a single byte. */
		if (bpf_skb_load_bytes(skb, at, &option, sizeof(option)) ||
		    option.type == IPV4_OPTION_END)
			return found;
		/* Without a branch, as in skip_ext_hdrs(). */
		found |= is_zero(option.type ^ IPV4_OPTION_LSRR) |
			 is_zero(option.type ^ IPV4_OPTION_SSRR);
		if (option.type == IPV4_OPTION_NOP)
			option.length = 1;
		else
			found |= option.length < sizeof(option);
		at += option.length;
	}
	return found | (at != flow->l4_off);
}

static __always_inline enum pkt_kind parse_ipv4(struct __sk_buff *skb, __u32 offset,
						struct flow *flow)
{
	struct iphdr *ip = pull_header(skb, offset, sizeof(*ip));
	__u32 header_length, length;

	if (!ip)
		return PKT_MALFORMED;
	header_length = ip->ihl * 4;
	if (ip->version != 4 || header_length < sizeof(*ip))
		return PKT_MALFORMED;
	length = ip_length(bpf_ntohs(ip->tot_len), skb->len - offset);
	if (length < header_length || offset + length > skb->len)
		return PKT_MALFORMED;
	addr_set_v4mapped(&flow->saddr, ip->saddr);
	addr_set_v4mapped(&flow->daddr, ip->daddr);
	flow->protocol = ip->protocol;
	flow->hop_limit = ip->ttl;
	flow->l4_off = offset + header_length;
	flow->l3_end = offset + length;
	if (header_length > sizeof(*ip))
		flow->has_next_hop = has_source_route(skb, flow, offset + sizeof(*ip));
	if (!(ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)))
		return PKT_OTHER;
	flow->fragment_id = ip->id;
	flow->fragment = FRAGMENT_FIRST;
	if (!(ip->frag_off & bpf_htons(IP_OFFSET)))
		return PKT_OTHER;
	flow->fragment = FRAGMENT_LATER;
	return PKT_FRAGMENT;
}

#endif
